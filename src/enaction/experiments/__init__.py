"""The experiments: each one file that plans cells and turns their token tables into findings, registered here."""

from collections.abc import Callable

from enaction.experiments import matrix
from enaction.findings import Finding
from enaction.study.config import Study
from enaction.study.store import Run

EXPERIMENTS: dict[str, Callable[[Study, Run], list[Finding]]] = {"matrix": matrix.analyse}
