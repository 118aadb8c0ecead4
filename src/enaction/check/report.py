"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass

from enaction.passages import Passage
from enaction.words import Framing

# Tests whose value is an error of statistics, nats; the largest is what a reading is right to.
STATISTICS_TEST = "statistics against float64"
COMPANY_TEST = "a score does not depend on its batch"


@dataclass(frozen=True)
class Verdict:
    """One thing that has to be right.

    Attributes:
        name: what is tested.
        passed: None if it could not be or need not be tested; `shown` says why.
        shown: the outcome, for a person.
        value: the number that decides, if there is one.
        limit: what it must not exceed, if there is such a limit.
    """

    name: str
    passed: bool | None
    shown: str
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True)
class CheckReport:
    """Facts about a model, and how it did in the tests.

    Attributes:
        model: the reader's name.
        framing: in which it wrote.
        facts: name to fact, both in words.
        tests: in the order in which to look at failures.
        samples: what it wrote.
        warnings: what to know before trusting a number, a sentence each.
    """

    model: str
    framing: Framing
    facts: dict[str, str]
    tests: tuple[Verdict, ...]
    samples: tuple[Passage, ...]
    warnings: tuple[str, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether nothing failed."""
        return all(test.passed is not False for test in self.tests)

    @property
    def error(self) -> float | None:
        """The largest error that was found in entropy or surprisal, nats; None if nothing was read."""
        found = [t.value for t in self.tests if t.name in (STATISTICS_TEST, COMPANY_TEST) and t.value is not None]
        return max(found, default=None)
