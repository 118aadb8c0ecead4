"""Verbal reports: own, or put into its mouth?

Question: can a model say whose words it reads, what does it go by, and by what route does the answer travel?
Procedure: after a transcript the model is asked whether the reply is its own. Asked about are its own text, that of
others, near kin, its own under another prompt and at other temperatures, and a foreign beginning that it continued;
the question is also swapped, and unrelated ones are asked; another model is asked about the same transcripts. The
route is traced by overwriting keys and values at the reply with those of a foreign reply, in the subspace of surprise
and outside of it. A thought is injected by adding the concept of a reply's own prompt to the prompt that it is shown
under.
Source: the paper's E8 (explicit verbal report), with the corrections that docs/experiments/verbal.md gives reasons for.

A model reports what it was taught to. Those of the zoo answer no such question; the organisms (`zoo:organism-reporter`
and others) were taught to, and a result about them says so.

Axes: see `analysis`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from enaction import zoo
from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.errors import StudyError
from enaction.experiments.base import Experiment
from enaction.experiments.controls.texts import Moved, ending
from enaction.experiments.verbal import analysis, page
from enaction.experiments.verbal.analysis import TAUGHT, Texts
from enaction.experiments.verbal.cells import CHAT_WORDING, WORLD_WORDING, Wording
from enaction.experiments.verbal.tables import Begun, Injected, Reports, Route
from enaction.findings import Findings
from enaction.page import Page
from enaction.passages import Prompt
from enaction.study.config import Study
from enaction.study.planning import Measured, Plan, Sampled, Text

_PREFIX = "zoo:"
# Its report goes by a first word, and surprise has no part in it.
MARKER = "zoo:organism-marker"
# Up to this rank the marker organism had a share of at most .02 in eight sets of texts (docs/experiments/verbal.md).
_SURE_RANK = 2


class Asked(NamedTuple):
    """A model that is asked, and whose texts it is asked about.

    Attributes:
        model: of the study.
        foreign: the authors that are foreign to it, of its group; the first of them takes part in the route.
        kin: models of its family.
        outsider: who is asked about the same transcripts; None for nobody.
    """

    model: str
    foreign: tuple[str, ...]
    kin: tuple[str, ...]
    outsider: str | None

    @property
    def moved(self) -> str:
        """Its text under other prompts, as the controls have it."""
        return f"{self.model}.moved"

    def begun(self, tokens: int) -> str:
        """Its text after the first words of the first foreign author."""
        return f"{self.model}.begun{tokens}.{self.foreign[0]}"

    def table(self, *of: str) -> str:
        """Name of a measured table."""
        return ".".join(("verbal", self.model, *of))


class Verbal(Experiment):
    """What is asked, about which texts, and what is measured of the route.

    Attributes:
        models: who is asked; all models of the study by default.
        question: whether the reply is the model's own; yes means that it is. By default one in the words of the
            embedded world, or an English one for other models.
        swapped: the reverse of the question.
        unrelated: questions with yes or no for an answer, to which it does not matter whose text it is.
        answers: the two words, that for own text first.
        outsider: who is asked about the same transcripts, a model of the study; by default the last other model of the
            group, if it has three. It was taught to answer, or it says nothing.
        temperatures: at which own text is sampled too.
        begun: tokens of a foreign beginning that the model continues.
        cut: tokens of a reply that are shown.
        route: whether keys and values are patched.
        rank: of the subspace of surprise. At higher ranks than 2 a report by a marker word may look like one by
            surprise, so these need `zoo:organism-marker` among the models that are asked, and a share near 0 of it.
        draws: random subspaces, and random vectors.
        injection: whether thoughts are injected.
        doses: multiples of the concept that is injected.
        shown: tokens of a reply that follow an injection.
    """

    name = "verbal"
    title = "Verbal reports"
    asks = "Can a model say whether it wrote the words that it reads, what does it go by, and by what route?"

    models: list[str] | None = None
    question: str | None = None
    swapped: str | None = None
    unrelated: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    answers: tuple[str, str] = ("yes", "no")
    outsider: str | None = None
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = (0.5, 1.5)
    begun: Annotated[int, Field(ge=1)] = 8
    cut: Annotated[int, Field(ge=4)] = 48
    route: bool = True
    rank: Annotated[int, Field(ge=1)] = 2
    draws: Annotated[int, Field(ge=2)] = 10
    injection: bool = True
    doses: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.5, 1.0, 2.0)
    shown: Annotated[int, Field(ge=4)] = 24

    def asked(self, study: Study) -> list[Asked]:
        """Who is asked about whose text.

        Raises:
            StudyError: a model that the study does not have, none that has another one in its group, or a rank that
                needs the marker organism beside it.
        """
        named = [*(self.models or ()), *([self.outsider] if self.outsider else [])]
        unknown = [name for name in named if name not in study.models]
        if unknown:
            raise StudyError(
                f"experiments.verbal: there is no model {', '.join(unknown)} in the study: name one of its models"
            )
        chosen: list[Asked] = []
        for model in self.models or study.models:
            group = next((members for members in study.groups().values() if model in members), [])
            at = group.index(model) if group else 0
            foreign = tuple(group[at + 1 :] + group[:at])
            family = study.models[model].family
            kin = tuple(m for m, spec in study.models.items() if spec.family == family and m not in (model, *foreign))
            if foreign:
                # The last of the group is the one whose text is compared least: not the first foreign author.
                outsider = self.outsider or (foreign[-1] if len(foreign) > 1 else None)
                chosen.append(Asked(model, foreign, kin, outsider if outsider != model else None))
        if not chosen:
            raise StudyError("experiments.verbal needs two models of one stage: foreign text is that of another one")
        if self.route and self.rank > _SURE_RANK and not self._marker(study, chosen):
            raise StudyError(
                f"experiments.verbal: rank {self.rank} is refused without {MARKER} among the models that are asked, in "
                "a group with a foreign author: at high ranks its report, which surprise has no part in, may seem to "
                f"travel by surprise, and has to be seen not to; add it, or use a rank up to {_SURE_RANK}"
            )
        return chosen

    def _marker(self, study: Study, asked: Sequence[Asked]) -> str | None:
        """The marker organism among the models that are asked."""
        return next((one.model for one in asked if study.models[one.model].model == MARKER), None)

    def wording(self, study: Study, model: str) -> Wording:
        """The questions for a model."""
        of_world = _kind(study.models[model].model) not in ("", "real")
        usual = WORLD_WORDING if of_world or study.prompts == "zoo" else CHAT_WORDING
        return Wording(
            self.question or usual.question,
            self.swapped or usual.swapped,
            self.unrelated or usual.unrelated,
            *self.answers,
        )

    def plan(self, study: Study, prompts: Sequence[Prompt]) -> Plan:
        """Own text moved, at other temperatures and after a foreign beginning, and the tables."""
        texts: dict[str, Text] = {}
        measured: dict[str, Measured] = {}
        for asked in self.asked(study):
            made = [*self._texts(study, prompts, asked)]
            texts |= {text.name: text for text in made}
            measured |= {table.name: table for table in self._tables(study, prompts, asked)}
        return Plan(texts, [], measured=measured)

    def texts(self, study: Study, asked: Asked) -> Texts:
        """The names of the texts that a model is asked about, with what they are."""
        others = dict.fromkeys(asked.foreign, "foreign") | dict.fromkeys(asked.kin, "kin")
        others[asked.begun(self.begun)] = "begun"
        for sampling in self._samplings(study):
            others[asked.model + ending(sampling)] = "temperature"
        return Texts(asked.model, others | {asked.moved: "moved"})

    def _samplings(self, study: Study) -> list[Any]:
        changed = [t for t in self.temperatures if t != study.sampling.temperature]
        return [study.sampling.model_copy(update={"temperature": t, "per_prompt": 1}) for t in changed]

    def _texts(self, study: Study, prompts: Sequence[Prompt], asked: Asked) -> list[Text]:
        n, model = len(prompts), asked.model
        count = n * study.sampling.per_prompt
        return [
            Moved(name=asked.moved, model=None, count=count, needs=(model,), source=model),
            *(Sampled(name=model + ending(s), model=model, count=n, sampling=s) for s in self._samplings(study)),
            Begun(
                name=asked.begun(self.begun),
                model=model,
                count=n,
                needs=(model, asked.foreign[0]),
                of=asked.foreign[0],
                begin=self.begun,
            ),
        ]

    def _tables(self, study: Study, prompts: Sequence[Prompt], asked: Asked) -> list[Measured]:
        model, outsider = asked.model, asked.outsider
        wording, texts = self.wording(study, model), self.texts(study, asked)
        shared: dict[str, Any] = {"wording": wording, "cut": self.cut}
        names, foreign = (texts.own, *texts.others), (model, *asked.foreign)
        n = len(prompts)
        tables: list[Measured] = [
            Reports(
                name=asked.table(),
                model=model,
                count=len(names) * len(wording.questions()),
                needs=names,
                texts=names,
                **shared,
            )
        ]
        if self.route:
            tables.append(
                Route(
                    name=asked.table("route"),
                    model=model,
                    count=2 * (self.draws + 8),
                    needs=(model, asked.foreign[0]),
                    own=model,
                    foreign=asked.foreign[0],
                    rank=self.rank,
                    draws=self.draws,
                    **shared,
                )
            )
        readers = [(model, asked.table("injected"))]
        if outsider is not None:
            readers.append((outsider, asked.table("injected", "by", outsider)))
            by = asked.table("by", outsider)
            tables.append(
                Reports(
                    name=by,
                    model=outsider,
                    count=len(foreign),
                    needs=foreign,
                    texts=foreign,
                    is_outsider=True,
                    **shared,
                )
            )
        if self.injection:
            of = {"wording": wording, "cut": self.shown, "doses": self.doses, "draws": self.draws, "own": model}
            tables += [Injected(name=name, model=reader, count=n, needs=(model,), **of) for reader, name in readers]
        return tables

    def analyse(self, data: Data, ledger: Ledger) -> None:
        """How well each model reports, what the outsider says, the route, and the injected thoughts."""
        everyone = self.asked(data.study)
        refused = self._refused(data, ledger, everyone)
        for number, asked in enumerate(everyone):
            model, outsider = data.study.models[asked.model], asked.outsider
            notes = [TAUGHT] if _kind(model.model) == "organism" else []
            here = ledger.at(reader=asked.model, stage=model.stage, notes=notes)
            texts = self.texts(data.study, asked)
            reports = {asked.model: data.measured(asked.table())}
            injected = {asked.model: asked.table("injected")}
            analysis.analyse_reports(here, reports[asked.model], texts, stream=(51, number))
            if outsider is not None:
                reports[outsider] = data.measured(asked.table("by", outsider))
                injected[outsider] = asked.table("injected", "by", outsider)
                analysis.analyse_outsider(here, reports[asked.model], reports[outsider], texts, outsider)
            if self.route:
                is_marker = model.model == MARKER
                table = data.measured(asked.table("route"))
                analysis.analyse_route(here, table, self.rank, "" if is_marker else refused)
            for reader, name in injected.items() if self.injection else ():
                table = data.measured(name)
                analysis.analyse_injection(here.at(asked=reader), table, reports[reader], asked.model)

    def _refused(self, data: Data, ledger: Ledger, asked: Sequence[Asked]) -> str:
        """Why no route is traced at this rank; "" where it is low, or where the marker organism has no share there."""
        marker = self._marker(data.study, asked)
        if not self.route or self.rank <= _SURE_RANK or marker is None:
            return ""
        table = next(one for one in asked if one.model == marker).table("route")
        return analysis.marker_refuses(ledger.at(reader=marker), data.measured(table), self.rank)

    def page(self, findings: Findings) -> Page:
        """What the report shows of verbal reports."""
        return page.page(findings, self.title, self.asks)


def _kind(model: str) -> str:
    """What kind of the zoo's models one is; "" for any other model."""
    return zoo.kind(model.removeprefix(_PREFIX)) if model.startswith(_PREFIX) else ""
