"""Controls (E10 and the critics): does recognition survive, arm by arm?

Question: is the interaction of the matrix recognition of own text, or something that a critic can name?
Procedure: each arm changes the texts or the comparison so that one rival explanation can no longer work, and gives
recognition (log units, as in the matrix) with an interval, beside the same number without the change. What that is for
each arm stands in docs/experiments/controls.md.
Source: PAPER.md section 2; arXiv 2605.25459 reports no such controls but a temperature plot.

Axes: R reader, P prompt.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from enaction.errors import StudyError
from enaction.experiments.base import StudyFile
from enaction.experiments.cells import INTERVAL, POOLED, Data, NoSettings, estimated
from enaction.experiments.controls import texts as texts_of
from enaction.experiments.controls.arms import NAME, Lab, contrast_arm, left_out, strangers, table_arm
from enaction.experiments.controls.difficulty import difficulty, of_one_length
from enaction.experiments.controls.texts import HUMAN, MEMORISED, moved, plain, shuffled, synonyms
from enaction.experiments.old_planning import Derived, sampled
from enaction.findings import Finding
from enaction.study.config import Study
from enaction.study.planning import Plan, Text
from enaction.study.store import Cell
from enaction.words import WORLD, Framing
from enaction.world.passages import world_passages


class Settings(NoSettings):
    """What is varied; everything else is the study's own.

    Attributes:
        stage: the matrix whose models are tested; the last one without near-clones by default.
        framing: how all texts are read.
        temperatures, top_p: settings of the author, beside the study's own; each nucleus at temperature 1.
        kin: model -> near-clones of it (other seeds, rounded copies, adjacent checkpoints), all models of the study.
        human: passage file of people's answers to the study's prompts.
        memorised: passage file of texts that all models know by heart.
        synonyms: JSON file {word: the word that stands for it}; the embedded world's own for its prompts.
        bins: of base entropy in the comparison of equally difficult texts.
        judge: model of the study whose entropy stands for the base's there, for readers whose family has no base.
    """

    stage: str | None = None
    framing: Framing = "assistant"
    temperatures: tuple[Annotated[float, Field(ge=0)], ...] = (0.0, 0.5, 0.7, 1.5)
    top_p: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.9,)
    kin: dict[str, list[str]] = {}  # noqa: RUF012  # pydantic copies it
    human: StudyFile | None = None
    memorised: StudyFile | None = None
    synonyms: StudyFile | None = None
    bins: Annotated[int, Field(ge=1)] = 8
    judge: str | None = None


def chosen(study: Study, settings: Settings) -> tuple[str, list[str]]:
    """The matrix that is tested: its name and its models.

    Raises:
        StudyError: there is none, or kin or a judge that are not among the models.
    """
    kin = {clone for clones in settings.kin.values() for clone in clones}
    unknown = sorted((kin | set(settings.kin)) - set(study.models))
    if unknown:
        raise StudyError(f"controls: kin: {', '.join(unknown)} not among the study's models")
    if settings.judge is not None and settings.judge not in study.models:
        raise StudyError(f"controls: judge: {settings.judge} is not among the study's models")
    groups = {name: members for name, members in study.groups().items() if not kin & set(members)}
    stage = settings.stage or (list(groups)[-1] if groups else None)
    if stage not in groups:
        known = ", ".join(groups) or "none"
        raise StudyError(f"controls: stage: no matrix '{stage}' without near-clones; there is {known}: see `matrices`")
    return stage, groups[stage]


def plan(study: Study, settings: Settings) -> Plan:
    """The texts of all arms, read by the models of the matrix; a base reads what its descendant is held against."""
    _, members = chosen(study, settings)
    own = {model: _own_texts(study, settings, model) for model in members}
    foreign = {text.name: text for text in _foreign(study, settings)}
    texts = {text.name: text for found in own.values() for text in found} | foreign
    clones = [clone for model in members for clone in settings.kin.get(model, [])]
    cells = [Cell(reader, author, settings.framing) for reader in members for author in [*members, *clones, *texts]]
    for model in members:
        if (base := study.base_of(model)) is not None:
            of_others = [author for m in members for author in (m, f"{m}.moved")]
            of_own = [text.name for text in own[model]] + settings.kin.get(model, [])
            cells += [Cell(base, author, settings.framing) for author in [*of_others, *of_own, *foreign]]
        elif settings.judge is not None:
            cells += [Cell(settings.judge, author, settings.framing) for author in members]
    return Plan(texts, list(dict.fromkeys(cells)))


def _own_texts(study: Study, settings: Settings, model: str) -> list[Text]:
    """What is sampled from a model, or made of its own text."""
    first_of = synonyms(study, settings.synonyms)
    return [
        sampled(study, f"{model}.again", model, study.sampling),
        *(
            sampled(study, texts_of.setting_name(model, s), model, s)
            for s in texts_of.settings_of(study, settings.temperatures, settings.top_p)
        ),
        moved(study, model),
        *([plain(study, model, first_of)] if first_of is not None else []),
        shuffled(study, model),
    ]


def _foreign(study: Study, settings: Settings) -> list[Text]:
    """Texts that no model of the study wrote."""
    found: list[Text] = []
    if study.world_text:
        prompts, per_prompt = study.load_prompts(), study.sampling.per_prompt
        found.append(
            Derived(WORLD, len(prompts) * per_prompt, lambda _: world_passages(prompts, per_prompt, study.seed))
        )
    if settings.human is not None:
        found.append(texts_of.human(study, settings.human))
    by_heart = texts_of.memorised(study, settings.memorised)
    return [*found, by_heart] if by_heart is not None else found


def analyse(data: Data, settings: Settings) -> list[Finding]:
    """One line an arm: recognition with interval and null, and its share of what is there without the arm."""
    stage, members = chosen(data.study, settings)
    lab = Lab(data, stage, members, settings.framing)
    return [
        *table_arm(lab, "reference", "", lab.table()),
        *_sampling(lab, settings),
        *_kin(lab, settings),
        *_nobody(lab, settings),
        *_topic(lab),
        *_words(lab, settings),
        *table_arm(lab, "length", "", of_one_length(lab)),
        *difficulty(lab, settings.bins, settings.judge),
        *_distances(lab, settings),
    ]


def _sampling(lab: Lab, settings: Settings) -> list[Finding]:
    findings = []
    for s in texts_of.settings_of(lab.data.study, settings.temperatures, settings.top_p):
        ending = texts_of.setting_name("", s)
        findings += table_arm(lab, "sampling, all authors", ending[1:], lab.table(ending))
        findings += contrast_arm(
            lab, "sampling, own text only", ending[1:], {r: (f"{r}{ending}", strangers(lab, r)) for r in lab.members}
        )
    return findings


def _kin(lab: Lab, settings: Settings) -> list[Finding]:
    """The reader's own second sample is kin at distance 0: the null of this arm."""
    findings = contrast_arm(lab, "itself again", "", {r: (r, [f"{r}.again"]) for r in lab.members})
    there = [(r, clone) for r in lab.members for clone in settings.kin.get(r, [])]
    for reader, clone in there:
        findings += contrast_arm(lab, "kin", clone, {reader: (reader, [clone])})
    return findings if there else [*findings, left_out(lab, "kin", "the study names no near-clones (setting kin)")]


def _nobody(lab: Lab, settings: Settings) -> list[Finding]:
    """Text that no model wrote: of the world or of people, and by heart."""
    findings, foreign = [], [text.name for text in _foreign(lab.data.study, settings)]
    arms = {WORLD: "people or the world", HUMAN: "people or the world", MEMORISED: "memorised"}
    for text in foreign:
        setting = text if text != MEMORISED else ""
        findings += contrast_arm(lab, arms[text], setting, {r: (r, [text]) for r in lab.members})
        findings += [_familiar(lab)] if text == MEMORISED else []
    if MEMORISED not in foreign:
        why = "no text is known to be known by heart (setting memorised, or a zoo that repeats some)"
        findings.append(left_out(lab, "memorised", why))
    if not {WORLD, HUMAN} & set(foreign):
        findings.append(left_out(lab, "people or the world", "no such text (world_text, or the setting human)"))
    return findings


def _topic(lab: Lab) -> list[Finding]:
    return [
        *table_arm(lab, "off topic, all authors", "", lab.table(".moved")),
        *contrast_arm(
            lab,
            "off topic, foreign text only",
            "",
            {r: (r, [f"{a}.moved" for a in strangers(lab, r)]) for r in lab.members},
        ),
        *contrast_arm(lab, "off topic, own text only", "", {r: (f"{r}.moved", strangers(lab, r)) for r in lab.members}),
    ]


def _words(lab: Lab, settings: Settings) -> list[Finding]:
    shuffled_words = table_arm(lab, "shuffled words", "", lab.table(".shuffled"))
    if synonyms(lab.data.study, settings.synonyms) is None:
        why = "no sets of synonyms are known for these prompts (setting synonyms)"
        return [*shuffled_words, left_out(lab, "one word for synonyms", why)]
    return [*table_arm(lab, "one word for synonyms", "", lab.table(".plain")), *shuffled_words]


def _familiar(lab: Lab) -> Finding:
    """How far the way from strangers' text to own text familiar text goes in the readers' entropy."""
    cells = np.array(
        [
            [
                lab.entropy(r, MEMORISED),
                lab.entropy(r, r),
                np.mean([lab.entropy(r, a) for a in strangers(lab, r)], axis=0),
            ]
            for r in lab.members
        ]
    )

    def statistic(mean_R3: np.ndarray) -> np.ndarray:
        log_R3 = np.log(mean_R3)
        gained, whole = log_R3[..., 2] - log_R3[..., 0], log_R3[..., 2] - log_R3[..., 1]
        return gained.sum(axis=-1) / whole.sum(axis=-1)

    definition = (
        "log entropy on the strangers' text minus that on memorised text, divided by the same for own text, summed "
        f"over readers; 1: foreign text known by heart is read with as little entropy as own; {INTERVAL}"
    )
    found = lab.data.estimate(cells, statistic)
    return estimated(NAME, "familiar_share", lab.where("memorised"), found, lab.data.n_prompts, "ratio", definition)


def _distances(lab: Lab, settings: Settings) -> list[Finding]:
    """How far a text is from the reader's own in the reader's eyes, and what it costs the reader."""
    findings = []
    foreign = [text.name for text in _foreign(lab.data.study, settings)]
    for reader in lab.members:
        for text in [reader, f"{reader}.again", *settings.kin.get(reader, []), *strangers(lab, reader), *foreign]:
            read, own = (lab.data.cell(reader, author, lab.framing) for author in (text, reader))
            values = np.array([read.surprisal, own.surprisal, read.entropy])
            found = lab.data.estimate(values, lambda m: np.stack([m[..., 0] - m[..., 1], m[..., 2]], axis=-1))
            where = {"reader": reader, "text": text, "stage": lab.stage, "framing": lab.framing}
            n = int(np.isfinite(values).all(axis=0).sum())
            meanings = ("surprisal of the text minus that of the reader's own", "entropy")
            for i, (quantity, meaning) in enumerate(zip(("surprisal_distance", "text_entropy"), meanings, strict=True)):
                definition = f"{meaning}: {POOLED}; {INTERVAL}"
                findings.append(estimated(NAME, quantity, where, found[i], n, "nats", definition))
    return findings
