"""How much a command says: `-q`, `-v` and `-vv`, which every command has."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated

import typer

from enaction.cli import showing
from enaction.errors import UserError

LOGGER = "enaction"
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)

Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print results and errors alone: no bars, remarks and warnings.")
]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Log on standard error what is done; -vv in detail.")
]


def with_talking_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options `-q` and `-v`; typer reads signatures."""

    @wraps(command)
    def talking(*, quiet: bool, verbose: int, **given: object) -> None:
        with _talk(quiet, verbose), showing.guarded():
            command(**given)

    own = inspect.signature(command, eval_str=True).parameters.values()
    shared = [
        inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet),
        inspect.Parameter("verbose", inspect.Parameter.KEYWORD_ONLY, default=0, annotation=Verbose),
    ]
    talking.__signature__ = inspect.Signature(  # pyright: ignore[reportAttributeAccessIssue]
        [*(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own), *shared]
    )
    return talking


class _Handler(logging.Handler):
    """Prints records as remarks, so that they and a bar do not run through each other."""

    def emit(self, record: logging.LogRecord) -> None:
        showing.remark(self.format(record))


@contextmanager
def _talk(quiet: bool, verbose: int) -> Iterator[None]:
    """Print this much while the block runs.

    Raises:
        UserError: both at once.
    """
    if quiet and verbose:
        raise UserError("--quiet and --verbose contradict each other: give one of them")
    logger, handler = logging.getLogger(LOGGER), _Handler()
    if verbose:
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(_LEVELS[min(verbose, len(_LEVELS) - 1)])
    logging.getLogger(f"{LOGGER}.device").setLevel(logging.INFO)  # where models lie is said without being asked
    try:
        with warnings.catch_warnings(), showing.quietly(quiet):
            if quiet:
                warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
