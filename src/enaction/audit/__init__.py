"""Audit: was each token of this text sampled from this model? An anytime-valid test, and what it cannot say.

`settings` is the null, `reading` what a reader knows of each token, `judging` what is said of a turn, `streaming` goes
through a file of any length.
"""

from enaction.audit.judging import RUN_LENGTH, Turn, Verdict
from enaction.audit.settings import Settings
from enaction.audit.streaming import Audit, audit

__all__ = ["RUN_LENGTH", "Audit", "Settings", "Turn", "Verdict", "audit"]
