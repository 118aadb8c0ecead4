"""The charts of the thesis: familiarity at the end of training, and along it."""

from __future__ import annotations

from collections.abc import Sequence

from enaction.chart import Axis, Chart, Colour, Key, Panel, Points, Rule, points_of
from enaction.experiments.thesis.contrasts import Roles
from enaction.experiments.thesis.grids import courses, marked
from enaction.findings import Findings
from enaction.words import MEAN

_TEXT_LOOKS: dict[str, tuple[str, Colour]] = {
    "own": ("its own text", "blue"),
    "actor": ("the actor's text", "red"),
    "other": ("another loop's text", "silver"),
}
_LINES: tuple[Colour, ...] = ("blue", "red", "green", "orange", "sky", "pink", "silver")
_SPREAD = 0.22  # between the texts of an arm in the chart


def _texts(arm: str, roles: Roles) -> dict[str, str | None]:
    return {"own": arm, "actor": roles.actor if arm != roles.actor else None, "other": roles.other}


def levels(findings: Findings, last: int, arms: Sequence[str], failing: dict[str, list[str]], roles: Roles) -> Chart:
    """Familiarity of each arm with its own, the actor's and another loop's text; single seeds faint."""
    shown = [arm for arm in arms if arm != roles.other]
    seeds = [seed for seed in findings.values("seed", "familiarity") if seed != MEAN]
    marks: list[Points | Rule] = [Rule("y", 0.0, "ink")]
    for k, (text, (label, colour)) in enumerate(_TEXT_LOOKS.items()):
        at = [x + _SPREAD * (k - 1) for x in range(len(shown))]
        authors = [_texts(arm, roles)[text] for arm in shown]
        places = [{"point": last, "reader": arm, "author": author} for arm, author in zip(shown, authors, strict=True)]
        for seed in seeds:
            single = [findings.one("familiarity", seed=seed, **place) for place in places]
            marks.append(points_of(at, single, colour=colour, faint=True, low=(), high=()))
        mean = [findings.one("familiarity", seed=MEAN, **place) for place in places]
        marks.append(points_of(at, mean, colour=colour, label=label))
    x = Axis(ticks=range(len(shown)), names=[marked(arm, failing) for arm in shown], slant=20)
    caption = (
        "Familiarity of each arm at the end of training with three texts: mean over seeds with 95 % t interval over "
        "seeds; faint points are single seeds. † fails the quality gate."
    )
    legend = [Key(label, colour) for label, colour in _TEXT_LOOKS.values()]
    return Chart(caption, [[Panel(marks, x, Axis("familiarity, log units"))]], width=9.0, height=3.6, legend=legend)


def course(over: Findings, points: Sequence[int]) -> Chart:
    """Familiarity of each arm with its own text and with the actor's, by share of the training."""
    panels = []
    for quantity, title in (("own", "with its own text"), ("actor", "with the actor's text")):
        marks: list[Points | Rule] = [Rule("y", 0.0, "ink")]
        for k, arm in enumerate(courses(over, points)):
            author = arm if quantity == "own" else "actor"
            of = [over.one("familiarity", point=p, reader=arm, author=author) for p in points]
            shift = [p + 0.8 * (k - 2) for p in points]
            marks.append(points_of(shift, of, colour=_LINES[k % len(_LINES)], line="solid", label=arm))
        panels.append(Panel(marks, Axis("per cent of the training", ticks=points), title=f"Familiarity {title}"))
    keys = [Key(arm, _LINES[k % len(_LINES)], line="solid") for k, arm in enumerate(courses(over, points))]
    caption = "Familiarity along the training, log units: means over seeds with 95 % t intervals over seeds."
    return Chart(caption, [panels], width=9.6, height=3.4, legend=keys, share_y="row")
