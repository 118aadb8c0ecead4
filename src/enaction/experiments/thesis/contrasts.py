"""What the thesis asks of a panel, as sums of familiarities with small coefficients.

Familiarity of a reader with a text is how much less log entropy it finds than its own confidence and the text's ease
explain. Each contrast names the readings that it adds and subtracts; the analysis computes them all from one table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from enaction.experiments.thesis.panels import Panel

# (reading model, writing model) -> how often the reader's familiarity with the text counts.
Terms = Mapping[tuple[str, str], float]


@dataclass(frozen=True)
class Roles:
    """Which arm plays which part; the fields are the settings of the experiment."""

    actor: str = "actor"
    twins: tuple[str, ...] = ()
    loops: tuple[str, ...] = ()
    control: str | None = None
    other: str | None = None
    empty: str | None = None

    @property
    def named(self) -> list[str]:
        """Every arm with a part, once."""
        parts = [self.actor, *self.twins, *self.loops, self.control, self.other, self.empty]
        return list(dict.fromkeys(arm for arm in parts if arm is not None))


@dataclass(frozen=True)
class Contrast:
    """A sum of familiarities of one panel.

    Attributes:
        quantity, text: of the finding, and what it means.
        where: its place, in arms.
        terms: the sum, in models.
    """

    quantity: str
    text: str
    where: Mapping[str, str]
    terms: Terms


def contrasts(panel: Panel, roles: Roles) -> Iterator[Contrast]:
    """Every arm on every arm's text, then what the thesis asks of each arm, then of loops beside twins."""
    arms = panel.arms
    for reader in arms:
        for author in arms:
            where = {"reader": reader, "author": author}
            yield Contrast(
                "familiarity", "how familiar the reader is with the text", where, _term(panel, reader, author)
            )
    for arm in arms:
        if arm != roles.other:
            yield _gain(panel, arm)
            if roles.actor in arms:
                yield from _beside_actor(panel, arm, roles.actor)
                yield from _beside_other(panel, arm, roles)
    for loop in (roles.actor, *roles.loops):
        for twin in roles.twins:
            if loop in arms and twin in arms:
                yield from _loop_adds(panel, loop, twin)
    for twin in roles.twins:
        if {roles.actor, twin, roles.other} <= set(arms):
            yield _loop_adds_specifically(panel, roles.actor, twin, str(roles.other))


def _gain(panel: Panel, arm: str) -> Contrast:
    text = "familiarity with own text less that of the arm's start with its own text"
    return Contrast("gain", text, {"reader": arm}, _sum(_term(panel, arm, arm), _of_start(panel, arm, -1)))


def _beside_actor(panel: Panel, arm: str, actor: str) -> Iterator[Contrast]:
    own, of_actor, where = _term(panel, arm, arm), _term(panel, arm, actor), {"reader": arm}
    yield Contrast(
        "learned",
        "familiarity with the actor's text less that of the arm's start with the same text",
        where,
        _sum(of_actor, {(panel.starts[arm], panel.arms[actor]): -1}),
    )
    if arm == actor:
        return
    yield Contrast(
        "own_less_actors",
        "familiarity with own text less familiarity with the actor's",
        where,
        _sum(own, _term(panel, arm, actor, -1)),
    )
    yield Contrast(
        "apart",
        "own less other's text, summed over the arm and the actor; 0: neither tells its text from the other's",
        where,
        _sum(own, _term(panel, actor, actor), _term(panel, arm, actor, -1), _term(panel, actor, arm, -1)),
    )


def _beside_other(panel: Panel, arm: str, roles: Roles) -> Iterator[Contrast]:
    other, control = roles.other, roles.control
    if other is None or other not in panel.arms or panel.arms[other] == panel.arms[arm]:
        return
    specific = _sum(_term(panel, arm, roles.actor), _term(panel, arm, other, -1))
    text = "familiarity with the actor's text less that with another loop's, of the actor's start and reward"
    yield Contrast("specific", text, {"reader": arm}, specific)
    if control is not None and control in panel.arms and control != arm:
        of_control = _sum(_term(panel, control, roles.actor, -1), _term(panel, control, other))
        yield Contrast(
            "specific_beyond_control",
            "the actor's less the other loop's text, less the same of the control, which learned from the other "
            "loop's replies; reader and author effects cancel in it",
            {"reader": arm},
            _sum(specific, of_control),
        )


def _loop_adds(panel: Panel, loop: str, twin: str) -> Iterator[Contrast]:
    levels, where = _sum(_term(panel, loop, loop), _term(panel, twin, twin, -1)), {"loop": loop, "reader": twin}
    yield Contrast("loop_adds", "familiarity with own text, of the loop less of the twin", where, levels)
    yield Contrast(
        "loop_adds_to_gain",
        "gain in familiarity with own text over that of the own start, of the loop less of the twin",
        where,
        _sum(levels, _of_start(panel, loop, -1), _of_start(panel, twin)),
    )


def _loop_adds_specifically(panel: Panel, actor: str, twin: str, other: str) -> Contrast:
    text = (
        "the actor's text less another loop's of the actor's start and reward, as familiar to the actor, less the same "
        "of the twin; reader and author effects cancel in it"
    )
    terms = [_term(panel, actor, actor), _term(panel, actor, other, -1)]
    terms += [_term(panel, twin, actor, -1), _term(panel, twin, other)]
    return Contrast("loop_adds_specifically", text, {"loop": actor, "reader": twin}, _sum(*terms))


def _term(panel: Panel, reader: str, author: str, times: float = 1.0) -> Terms:
    return {(panel.arms[reader], panel.arms[author]): times}


def _of_start(panel: Panel, arm: str, times: float = 1.0) -> Terms:
    """An arm's start on the start's own text."""
    return {(panel.starts[arm], panel.starts[arm]): times}


def _sum(*parts: Terms) -> Terms:
    """All terms; those of one reading (a loop beside itself) are added up."""
    total: defaultdict[tuple[str, str], float] = defaultdict(float)
    for part in parts:
        for reading, times in part.items():
            total[reading] += times
    return total
