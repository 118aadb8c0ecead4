"""What an audit says, in words and tables: the answer first, then all turns together, the worst turns, and cautions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from enaction.audit.settings import Settings
from enaction.audit.table import LN10, Row, Tally
from enaction.page import Cell, Grid, Page, Section, Statement
from enaction.stats.evidence import e_bh

if TYPE_CHECKING:
    from enaction.audit.resampling import Ranked

NONE = "–"
# Characters of an id in the table.
_NAME = 20


@dataclass(frozen=True)
class Summary:
    """All that is said of a file.

    Attributes:
        model: the reader's name.
        settings: of the sampler.
        fdr: bound on the expected share of false reports.
        tally: sums over the turns, and the worst of them.
        log_e, greatest: of all turns together, after the last token and at any, nats.
        seen: temperatures nearest to the stated one that all turns together would have shown; None if none.
        n_otherwise: turns that say they were sampled with other settings.
        versus: other readers that were alternatives.
        observer: which of them gave Binoculars' ratio, if any.
        second: the second opinion, of the first turns.
        unknown: what is not known of the reader, if a server runs it, a sentence each.
    """

    model: str
    settings: Settings
    fdr: float
    tally: Tally
    log_e: float
    greatest: float
    seen: tuple[float, float] | None
    n_otherwise: int = 0
    versus: Sequence[str] = ()
    observer: str | None = None
    second: Sequence[Ranked] = ()
    unknown: Sequence[str] = ()

    @property
    def reported(self) -> np.ndarray:
        """Mask [turns] of those that are reported."""
        return e_bh(np.array(self.tally.log_e), self.fdr)

    @property
    def is_stream_foreign(self) -> bool:
        """Whether all turns together are reported as not sampled as stated."""
        return self.greatest >= self.settings.log_threshold

    @property
    def bits(self) -> float | None:
        """Growth of the evidence of all turns together, bits a token."""
        return self.log_e / math.log(2) / self.tally.n_tokens if self.tally.n_tokens else None


def stated(settings: Settings) -> str:
    """The settings of a sampler in words."""
    parts = [f"temperature {settings.temperature:g}"]
    if settings.top_p < 1:
        parts.append(f"top-p {settings.top_p:g}")
    if settings.top_k is not None:
        parts.append(f"top-k {settings.top_k}")
    return ", ".join(parts if settings.is_truncated else [*parts, "no truncation"])


def page_of(summary: Summary) -> Page:
    """The page of an audit."""
    sections = [Section("Turns", _HOW_TO_READ, grids=[_turns(summary)])]
    if summary.second:
        sections.append(Section("Second opinion by sampling again", _SECOND, grids=[_second(summary)]))
    return Page(
        "Audit",
        f"was each turn sampled from {summary.model} as stated?",
        _answers(summary),
        [*sections, Section("What is not said", " ".join(cautions(summary)))],
    )


def _answers(summary: Summary) -> list[Statement]:
    tally, settings = summary.tally, summary.settings
    n, n_reported = tally.n_turns, int(summary.reported.sum())
    said = f"{summary.model} at {stated(settings)}"
    of = f"{_count(n_reported, n)} reported as not sampled from {said}"
    if n_reported:
        more = f" (e-BH; on average at most {summary.fdr:g} of such reports are false)"
    elif summary.is_stream_foreign:
        more = ", and yet all of them together were not"
    else:
        more = ": no evidence, which is no proof that the model wrote them"
    first = "alarm" if n_reported or summary.is_stream_foreign else "no effect"
    made = [Statement(f"{of}{more}.", verdict=first, headline=True)]
    together = (
        f"log10 e is {summary.log_e / LN10:.2f} after {tally.n_tokens:,} tokens (greatest "
        f"{summary.greatest / LN10:.2f}; {-math.log10(settings.alpha):.2f} is needed), "
        f"{0.0 if summary.bits is None else summary.bits:.2g} bits a token"
    )
    if summary.is_stream_foreign:
        made.append(Statement(f"not sampled as stated: {together}.", verdict="alarm", subject=_TOGETHER))
    else:
        seen = _would_be_seen(summary.seen, settings.temperature)
        made.append(Statement(f"no evidence: {together}; {seen}.", subject=_TOGETHER))
    made.append(
        Statement(
            f"{tally.n_foreign} of {n} are foreign: e reached {1 / settings.alpha:g} at some token, which happens to "
            f"at most {settings.alpha:g} of turns that were sampled as stated, so that of many own turns a few do.",
            subject="Each turn by itself",
        )
    )
    if summary.n_otherwise:
        text = (
            f"{_count(summary.n_otherwise, n)} noted in the file as sampled otherwise than {stated(settings)}, and "
            "tested against that all the same: check --temperature, --top-p and --top-k."
        )
        made.append(Statement(text, verdict="alarm", subject="Warning"))
    return made


_TOGETHER = "All turns together, as if one sampler had written them all"


def _count(k: int, n: int) -> str:
    return f"{'None' if k == 0 else k} of {n} turn{'s' * (n != 1)} {'are' if k > 1 else 'is'}"


def _would_be_seen(seen: tuple[float, float] | None, temperature: float) -> str:
    if seen is None:
        return "so few tokens would have shown no other temperature"
    below, above = (_temperature(temperature * s) for s in seen)
    return f"a temperature of {below} or {above} would have been seen"


def _temperature(value: float) -> str:
    """Two digits behind the point, so that one near 1 is not called 1."""
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def cautions(summary: Summary) -> list[str]:
    """What the answer does not say, a sentence or two each."""
    settings, tally = summary.settings, summary.tally
    lines = [
        "That a turn is the model's own is never proven: `no evidence` says that what the columns `seen` name would "
        "have been seen, and nothing of smaller changes, or of text that the model might as well have written.",
        "`at least k` counts tokens at the beginning that cannot all be the model's; there is no upper end, since the "
        "model goes on with foreign text as if it were its own.",
        "Curvature, log-probability, log-rank and Binoculars' ratio have no level: a text can be unusual in them by "
        "its prompt, and a change of temperature or a foreign sentence can leave them alone. They are for comparison.",
    ]
    if settings.noise:
        lines.insert(
            1,
            f"Noise {settings.noise:g}: the sampler's log-probabilities may differ from the reader's by so many nats a "
            "token (other kernels, half precision, a server) without counting as evidence; --noise 0 is for text that "
            "was sampled here in float32.",
        )
    if summary.unknown:
        lines.append(f"{summary.model} is a server's: {'; '.join(summary.unknown)}.")
    if tally.n_empty:
        lines.append(f"{_count(tally.n_empty, tally.n_turns)} without a token to measure.")
    return lines


_HOW_TO_READ = (
    "Greatest evidence first. log10 e: evidence against the turn's being sampled as stated, after its last token and "
    "at its greatest; after: tokens after which it was enough; at least: so many first tokens are not the model's; "
    "seen: nearest temperatures that the turn would have shown. `Reported` is by e-BH over all turns, `foreign` by the "
    "turn alone."
)
_WAYS = ("below", "above")
_HEADER = (
    *("turn", "id", "tokens", "verdict", "log10 e", "greatest", "after", "at least"),
    *("seen", "curvature", "log-prob", "log-rank"),
)


def _turns(summary: Summary) -> Grid:
    rows, reported = summary.tally.worst, summary.reported
    n = summary.tally.n_turns
    title = "Turns with their evidence" if len(rows) == n else f"The {len(rows)} turns of {n} with most evidence"
    header = [Cell(h, "name") if h == "turn" else h for h in _HEADER] + [f"against {name}" for name in summary.versus]
    if summary.observer is not None:
        header.append("Binoculars")
    return Grid(title, header, [_cells(r, summary, bool(reported[r["turn"] - 1])) for r in rows])


def _cells(row: Row, summary: Summary, is_reported: bool) -> list[Cell | str]:
    verdict = "reported" if is_reported else row["verdict"]
    look = "bad" if is_reported else "strong" if row["verdict"] == "foreign" else ""
    at = summary.settings.temperature
    versus: Mapping[str, Any] = json.loads(row["versus"])
    return [
        Cell(str(row["turn"]), "name"),
        _short(row["id"]),
        str(row["tokens"]),
        Cell(verdict, look),
        _number(row["log10_e"], 2),
        _number(row["log10_e_greatest"], 2),
        NONE if row["crossing"] is None else str(row["crossing"]),
        str(row["at_least"]) if row["at_least"] else NONE,
        NONE if row["seen_below"] is None else ", ".join(_temperature(at * row[f"seen_{way}"]) for way in _WAYS),
        _number(row["curvature"], 2),
        _number(-row["surprisal"], 2),
        _number(row["log_rank"], 2),
        *(_number(versus.get(name), 2) for name in summary.versus),
        *([] if summary.observer is None else [_number(row["binoculars"], 2)]),
    ]


def row_name(row: Row) -> str:
    """How a turn is called: its number in the file, and id."""
    return f"{row['turn']}: {row['id']}"


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME // 2]}…{name[-_NAME // 2 + 1 :]}"


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None or math.isnan(value) else f"{value:.{digits}f}"


_SECOND = (
    "The model answered the same prompt again with the same settings, and the turn was ranked among these answers by "
    "its first tokens. p: two-sided, each at its own level; exact where the file says whether a turn ended by itself."
)


def _second(summary: Summary) -> Grid:
    header = [Cell("turn", "name"), "tokens compared", "log-prob", "p", "curvature", "p"]
    rows = [
        [
            Cell(str(r.number), "name"),
            str(r.n_tokens),
            _number(r.logprob, 2),
            _number(r.p_logprob, 4),
            _number(r.curvature, 2),
            _number(r.p_curvature, 4),
        ]
        for r in summary.second
    ]
    n = summary.tally.n_turns
    return Grid(f"The first {len(rows)} of {n} turns, sampled again", header, rows)


def as_data(summary: Summary) -> dict[str, Any]:
    """The same for programs: the keys are a contract."""
    reported, settings = summary.reported, summary.settings
    worst = [{**row, "versus": json.loads(row["versus"])} for row in summary.tally.worst]
    below, above = summary.seen or (None, None)
    return {
        "model": summary.model,
        "settings": {
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "top_k": settings.top_k,
            "noise": settings.noise,
            "alpha": settings.alpha,
            "framing": settings.framing,
            "fdr": summary.fdr,
            "versus": list(summary.versus),
            "observer": summary.observer,
        },
        "answer": [statement.sentence for statement in _answers(summary)],
        "cautions": cautions(summary),
        "turns": summary.tally.n_turns,
        "tokens": summary.tally.n_tokens,
        "turns_reported": int(reported.sum()),
        "turns_foreign": summary.tally.n_foreign,
        "together": {
            "verdict": "foreign" if summary.is_stream_foreign else "no evidence",
            "log10_e": summary.log_e / LN10,
            "log10_e_greatest": summary.greatest / LN10,
            "bits_a_token": summary.bits,
            "seen_below": below,
            "seen_above": above,
        },
        "worst": [{**row, "reported": bool(reported[row["turn"] - 1])} for row in worst],
        "second_opinion": [vars(r) for r in summary.second],
        "definitions": DEFINITIONS,
    }


DEFINITIONS = {
    "log10_e": "log10 of the e-value against `each token was sampled as stated`, after the last token; for e-BH",
    "log10_e_greatest": "the largest that it was after any token; foreign where it reached 1/alpha",
    "crossing": "tokens after which it first did",
    "at_least": "so many tokens at the beginning, at least, were not sampled as stated",
    "change": "tokens after which the text is said to cease to be the model's; one such alarm in 10,000 own tokens",
    "outside": "tokens that the stated truncation leaves out",
    "information": "summed varentropy, nats^2",
    "seen_below": "greatest temperature below the stated one, relative to it, that the text would have shown, about",
    "seen_above": "smallest temperature above the stated one, relative to it, that the text would have shown, about",
    "surprisal": "mean over tokens of minus the log-probability as stated, nats",
    "entropy": "mean entropy of the distribution as stated, nats",
    "log_rank": "mean over tokens of log(1 + rank) in the model's distribution at temperature 1",
    "curvature": "summed entropy less surprisal, over the root of summed varentropy (Fast-DetectGPT); it has no level",
    "binoculars": "surprisal over the cross-entropy of the observer's distributions to the model; it has no level",
    "versus": "mean log-probability under another reader less that as stated, nats a token",
    "reported": "among the turns that e-BH reports",
    "bits_a_token": "log2 of the e-value of all turns together, by token",
}
