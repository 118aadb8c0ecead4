"""Errors that a user can fix.

Each is raised when the bad input is met, says what was given, why it cannot work and what to do, and is caught once,
at the edge of the command line, which prints it on one line and exits with code 2. Anything else is a bug and shows its
traceback.
"""


class UserError(ValueError):
    """Base of every error whose remedy is in the user's hands."""


class PassageError(UserError):
    """A passage, prompt or transcript cannot be read as given."""


class FramingError(UserError):
    """A passage cannot be given to this reader in the requested framing."""


class ModelError(UserError):
    """A model cannot be found, loaded or read exactly."""


class StudyError(UserError):
    """A study file or a run folder is not usable as given."""
