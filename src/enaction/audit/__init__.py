"""Audit: was each token of this text sampled from this model? An anytime-valid test, and what it cannot say.

`settings` is the null, `reading` what a reader knows of each token, `judging` what is said of a turn, `streaming` goes
through a file of any length. `rolled` makes turns of rollouts, `table` keeps what was said in a file, `resampling` is a
second opinion, `page` puts all of it into words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enaction.lazy import lazily

if TYPE_CHECKING:  # type checkers do not follow `_HOMES`
    from enaction.audit.judging import RUN_LENGTH as RUN_LENGTH
    from enaction.audit.judging import Turn as Turn
    from enaction.audit.judging import Verdict as Verdict
    from enaction.audit.settings import Settings as Settings
    from enaction.audit.streaming import Audit as Audit
    from enaction.audit.streaming import audit as audit

# Public name -> where it is defined.
_HOMES = {
    "RUN_LENGTH": "judging",
    "Turn": "judging",
    "Verdict": "judging",
    "Settings": "settings",
    "Audit": "streaming",
    "audit": "streaming",
}

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__ = lazily(__name__, _HOMES)
