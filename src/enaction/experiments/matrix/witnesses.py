"""Who recognises: recognition at equal difficulty of the passages, and the verdict on each reader.

In a table of two nobody can say which of them recognises, so there is neither. Axes: J reader or judge, A author, M
passage.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from enaction import stats
from enaction.analysis.data import Data
from enaction.analysis.ledger import T_INTERVAL, Ledger, along
from enaction.analysis.verdicts import LEAST_MODELS, verdicts_of
from enaction.findings import Findings
from enaction.words import Framing

_POOLING = "log entropy: of each passage's mean entropy, without the end-of-turn token"
_ADJUSTED = (
    "log entropy on own passages as expected from the reader's line over what readers that wrote neither find in the "
    "same passages, minus as found; above 0: recognition"
)
_INSTRUMENTED = "at the slope with one judge as instrument for another"
_WORSE = "at the end of the slope's range that is worse for recognition, since each passage has one judge"
_LEAST = "at the least slope, of the reader on its judges"
_LARGEST = "at the largest slope, of the judges on the reader"
_SLOPE = (
    "log units that the reader's entropy of foreign passages rises for one that the judges' rises, plain regression, "
    "so a lower bound; about 0: it does not respond to difficulty"
)
_RECOGNISED = (
    "1: certified to recognise text like its own: recognition and recognition_adjusted above 0, for all readers of the "
    "table at once at .05 in all, a response to difficulty, and the matched gap not against it; 0: not"
)


def add_witnesses(data: Data, ledger: Ledger, members: Sequence[str], framing: Framing) -> None:
    """Adjusted recognition and slope of each reader, then the verdict by all witnesses that the ledger has.

    Args:
        data: of a finished run.
        ledger: at the place of the table, with its recognition and matched gaps written.
        members, framing: of the table.
    """
    if len(members) < LEAST_MODELS:
        return
    judges = _outside(data, members, framing)
    logs = [np.array([data.cell(r, a, framing).log_passage for r in [*members, *judges]]) for a in members]
    found = stats.adjusted_recognition(logs, [data.prompt_codes(a) for a in members])
    note = f"judges: {', '.join(['the other readers', *judges])}"
    rows = along("reader", members)
    for quantity, at_slope, estimate in (
        ("recognition_adjusted", _INSTRUMENTED if found.has_instrument.all() else _WORSE, found.recognition),
        ("recognition_adjusted_direct", _LEAST, found.direct),
        ("recognition_adjusted_reverse", _LARGEST, found.reverse),
        ("difficulty_slope", "", found.slope),
    ):
        unit, text = ("log units", f"{_ADJUSTED}; {at_slope}") if at_slope else ("ratio", _SLOPE)
        ledger.add(
            quantity, unit, text, estimate, axes=[rows], pooling=_POOLING, null=0.0, n=data.n_prompts,
            interval=T_INTERVAL, notes=[note],
        )  # fmt: skip
    for verdict in verdicts_of(Findings(ledger.findings), **ledger.place):
        value, notes = float(verdict.is_certified), [f"{verdict.word}: {verdict.why}"]
        ledger.fact("recognised", "verdict", _RECOGNISED, value, data.n_prompts, notes=notes, reader=verdict.reader)


def _outside(data: Data, members: Sequence[str], framing: Framing) -> list[str]:
    """Base models that wrote none of the texts and read them all."""
    bases = [name for name, spec in data.study.models.items() if spec.stage == "base" and name not in members]
    return [b for b in bases if all(data.key(b, a, framing) in data.cells for a in members)]
