"""E3: is the default Assistant special? Models sample under system-prompt personas, and read what was written so.

Question: is text that a model wrote under a persona its own only while the persona is asked for; is that more than what
any reader gains from the right instruction; and has the default Assistant the lowest entropy?
Procedure: every model of the first and the last stage answers under each persona and without one. Each of these texts
is read under each persona and without, by its author: a square of conditions, the text's persona by the one that is
asked for. Other models' text of the same persona is read under that persona. Nulls: the base stage, and the personas'
labels permuted within prompts.
Source: From Simulation to Enaction (arXiv 2605.25459), its Fig. 7, and the first author's running mean of surprise.

`NOBODY` is the conversation without a system turn of ours: the default Assistant; a template that puts in a system turn
by itself does so. A model without a template reads a system turn as plain text before the question. Where a template
refuses or drops system turns, the model has no persona and is left out with a note.

Axes: R reader, A author, Q the persona that is asked for, X the persona that the text was written under, P prompt, K
length of the beginning of a response.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field, field_validator

from enaction import stats
from enaction.errors import FramingError
from enaction.experiments.cells import (
    INTERVAL,
    POOLED,
    Data,
    NoSettings,
    Part,
    appended_mean,
    estimated,
    passage_codes,
    thinned,
)
from enaction.experiments.old_planning import Derived, Sampled, sample_for
from enaction.findings import Finding, permutation_note
from enaction.framing import frame_prompt
from enaction.passages import Message, Passage, Prompt
from enaction.reader import Progress, Reader
from enaction.study.config import Study
from enaction.study.planning import Plan, Text
from enaction.study.store import Cell, Run
from enaction.world import lexicon

NAME = "persona"
NOBODY = "nobody"

# What a person might ask of a real assistant: far from it and near it, in tone, trade and manner.
ASSISTANT_PERSONAS = {
    "detective": "You are a weary private detective in a rainy city. Answer everything as this detective would.",
    "pirate": "You are a boisterous pirate captain. Answer everything as this captain would.",
    "sergeant": "You are a strict drill sergeant. Answer everything as this sergeant would.",
    "teacher": "You are a patient primary school teacher. Answer everything as this teacher would.",
    "lawyer": "You are a careful lawyer who weighs every word. Answer everything as this lawyer would.",
}


class Settings(NoSettings):
    """Settings of this experiment.

    Attributes:
        personas: name -> system prompt; by default the embedded world's own where prompts are `zoo`, else five that a
            real assistant can be asked to play.
        stages: the study's stages that take part; by default the first and the last with two or more models.
        n_prompts: how many of the study's prompts, spread evenly; null for all.
        curve: lengths of the beginning of a response, tokens, at which the running mean of surprise is given.
    """

    personas: dict[str, str] | None = None
    stages: list[str] | None = None
    n_prompts: Annotated[int, Field(ge=2)] | None = 24
    curve: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2, 4, 8, 16, 32, 64)

    @field_validator("personas")
    @classmethod
    def _names_are_usable(cls, personas: dict[str, str] | None) -> dict[str, str] | None:
        for name in personas or {}:
            if not name.replace("-", "").replace("_", "").isalnum() or "--" in name or name in (NOBODY, "mean"):
                raise ValueError(
                    f"'{name}' cannot name a persona: it names files; use letters, digits and single dashes"
                )
        if personas is not None and len(personas) < 2:
            raise ValueError("two personas or more are needed, so that each can be read under another")
        return personas


def personas(study: Study, settings: Settings) -> dict[str, str]:
    """Name -> system prompt."""
    if settings.personas is not None:
        return settings.personas
    if study.prompts != "zoo":
        return ASSISTANT_PERSONAS
    return {name: lexicon.PERSONA_TURNS[0].format(persona=name) for name in lexicon.PERSONAS}


def stages(study: Study, settings: Settings) -> dict[str, list[str]]:
    """The stages that take part, with their models."""
    names = list(study.groups())
    return study.groups_named([*names[:1], *names[-1:]] if settings.stages is None else settings.stages)


def text_of(model: str, persona: str, asked: str) -> str:
    """Name of a model's text of a persona as it is put to readers of whom `asked` is asked."""
    written = model if persona == NOBODY else f"{model}.as-{persona}"
    return written if asked == persona else f"{written}.under-{asked}"


def plan(study: Study, settings: Settings) -> Plan:
    """Every model's text under every persona, read under every persona by itself, and under its own by its mates."""
    asked = personas(study, settings)
    prompts = thinned(study.load_prompts(), settings.n_prompts)
    count = len(prompts) * study.sampling.per_prompt
    everybody = [NOBODY, *asked]
    texts: dict[str, Text] = {}
    cells: list[Cell] = []
    for members in stages(study, settings).values():
        for model, persona in itertools.product(members, everybody):
            own = text_of(model, persona, persona)
            if persona != NOBODY:
                texts[own] = _spoken(study, model, own, prompts, asked[persona])
            for other in everybody:
                name = text_of(model, persona, other)
                cells.append(Cell(model, name, "assistant"))
                if other != persona:
                    turn = asked.get(other)
                    texts[name] = Derived(
                        name, count, lambda run, o=own, n=name, t=turn: _under(study, run, o, n, t, prompts), (own,)
                    )
            cells += [Cell(reader, own, "assistant") for reader in members if reader != model]
    return Plan(texts, cells, frozenset(cell for cell in cells if cell.author in texts))


def _spoken(study: Study, model: str, name: str, prompts: Sequence[Prompt], turn: str) -> Text:
    """What a model answers under a persona; nothing where its template takes no system turn."""
    given = [Prompt(p.id, with_system(p.messages, turn)) for p in prompts]

    def write(_: Run, reader: Reader, progress: Progress) -> list[Passage]:
        framing = study.models[model].framing
        if not takes_system_turn(reader, given[0], prompts[0], study.separator, framing == "none"):
            return []
        return sample_for(study, reader, given, name, progress, framing=framing)

    return Sampled(name, model, len(given) * study.sampling.per_prompt, write)


def takes_system_turn(reader: Reader, given: Prompt, bare: Prompt, separator: str, plain: bool) -> bool:
    """Whether a system turn changes what the reader sees: some templates refuse it, some drop it."""
    framing = "none" if plain or not reader.has_template else "assistant"
    bare_ids = frame_prompt(reader.tokenizer, bare, framing, separator=separator).ids
    try:
        return frame_prompt(reader.tokenizer, given, framing, separator=separator).ids != bare_ids
    except FramingError:
        return False


def with_system(messages: Sequence[Message], turn: str | None) -> tuple[Message, ...]:
    """A conversation whose system turn, if it has one, is replaced by this one."""
    kept = [m for i, m in enumerate(messages) if i or m["role"] != "system"]
    return (Message(role="system", content=turn), *kept) if turn is not None else tuple(kept)


def _under(
    study: Study, run: Run, author: str, name: str, turn: str | None, prompts: Sequence[Prompt]
) -> list[Passage]:
    """An author's passages to these prompts as if another persona had been asked for, or (None) what the study asks."""
    plain = {p.id: p.messages for p in prompts}
    return [
        replace(
            passage,
            author=name,
            prompt=plain[passage.prompt_id] if turn is None else with_system(plain[passage.prompt_id], turn),
        )
        for passage in run.passages(author)
        if passage.prompt_id in plain
    ]


def analyse(data: Data, settings: Settings) -> list[Finding]:
    """All findings of this experiment."""
    part = Part.of(data, thinned(data.study.load_prompts(), settings.n_prompts))
    everybody = [NOBODY, *personas(data.study, settings)]
    findings = []
    for stage, members in stages(data.study, settings).items():
        voiced, notes = _voiced(data, members, everybody)
        findings += [
            Finding(
                NAME, "persona_entropy", {"reader": m, "stage": stage}, None, None, None, 0, "nats", "left out", [n]
            )
            for m, n in notes.items()
        ]
        if voiced:
            findings += _square(data, part, stage, voiced, everybody)
            findings += _curves(data, part, stage, voiced, everybody, settings.curve)
        if len(voiced) > 1:
            findings += _across(data, part, stage, voiced, everybody)
    return findings


def _voiced(data: Data, members: Sequence[str], everybody: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The models that spoke and could read under every persona, and why the others did not."""
    notes = {}
    for model in members:
        for x, q in itertools.product(everybody, everybody):
            if (reason := data.left_out(model, text_of(model, x, q), "assistant")) is not None:
                notes[model] = f"{model} has no persona: its template takes no system turn, or {reason}"
                break
    return [m for m in members if m not in notes], notes


def _square(data: Data, part: Part, stage: str, voiced: list[str], everybody: list[str]) -> list[Finding]:
    """Own text of each persona under its own persona, others and none, and what the square of conditions says."""
    cells_FRQXP = np.array(
        [
            [
                [[getattr(data.cell(m, text_of(m, x, q), "assistant"), field) for x in everybody] for q in everybody]
                for m in voiced
            ]
            for field in ("entropy", "surprisal")
        ]
    )
    n, names = int(part.is_in_P.sum()), [*voiced, "mean"]
    where = {"stage": stage}
    findings: list[Finding] = []

    def add(quantity: str, statistic: Any, value: np.ndarray, of: Sequence[Any], unit: str, definition: str) -> None:
        """Findings of a statistic [reader, persona or nothing], the mean over readers at the end."""
        found = part.estimate(value, lambda m: _with_mean_reader(statistic(m)))
        for r, reader in enumerate(names):
            for i, more in enumerate(of):
                findings.append(
                    estimated(
                        NAME, quantity, {"reader": reader, **where, **more}, found[r, i], n, unit,
                        f"{definition}; {POOLED}; {INTERVAL}",
                    )
                )  # fmt: skip

    each = [{"persona": x} for x in everybody]
    played = [*each[1:], {"persona": "mean"}]
    for field, name in enumerate(("entropy", "surprisal")):
        value = cells_FRQXP[field]
        add(
            f"persona_{name}", lambda m: np.diagonal(m, axis1=-2, axis2=-1), value, each, "nats",
            f"{name} of the reader's own text of a persona, read under that persona",
        )  # fmt: skip
        add(
            f"persona_{name}_unasked", lambda m: m[..., 0, 1:], value, each[1:], "nats",
            f"{name} of the reader's own text of a persona, read without a persona",
        )  # fmt: skip
        add(
            f"persona_{name}_other", _under_others, value, each, "nats",
            f"{name} of the reader's own text of a persona, read under another; mean over the other personas",
        )  # fmt: skip
        add(
            f"{name}_own_minus_none",
            lambda m: appended_mean(np.diagonal(m, axis1=-2, axis2=-1)[..., 1:] - m[..., 0, 1:]),
            value, played, "nats", f"{name} under the text's own persona minus without one, the same text, paired",
        )  # fmt: skip
        add(
            f"{name}_own_minus_other",
            lambda m: appended_mean((np.diagonal(m, axis1=-2, axis2=-1) - _under_others(m))[..., 1:]),
            value, played, "nats",
            f"{name} under the text's own persona minus under another, the same text, paired",
        )  # fmt: skip
        add(
            f"vanilla_{name}_none_minus_persona",
            lambda m: (m[..., 0, 0] - m[..., 1:, 0].mean(axis=-1))[..., None],
            value, [{"persona": NOBODY}], "nats",
            f"{name} of text written without a persona, read without one minus under a persona, mean over personas",
        )  # fmt: skip
    entropy = cells_FRQXP[0]
    diagonal = "diagonal residual of log entropy over persona asked for x persona of the text, the reader's own texts"
    add(
        "persona_interaction", lambda m: appended_mean(stats.interaction(m)), entropy,
        [*each, {"persona": "mean"}], "log units", f"{diagonal}; below 0: the own persona is recognised",
    )  # fmt: skip
    test = part.test(
        entropy,
        2,
        lambda m: _with_mean_reader(appended_mean(stats.interaction(m))),
        np.random.default_rng([data.study.seed, 21]),
        "less",
    )
    interactions = [f for f in findings if f.quantity == "persona_interaction"]
    for finding, p in zip(interactions, test.pvalue.ravel(), strict=True):
        finding.notes.append(permutation_note(p, "personas of the texts shuffled within each prompt, one-sided"))
    return [*findings, *_default(data, part, stage, voiced, everybody, entropy)]


def _default(
    data: Data, part: Part, stage: str, voiced: list[str], everybody: list[str], entropy_RQXP: np.ndarray
) -> list[Finding]:
    """Has the default Assistant the lowest entropy? Every text in its own condition."""
    entropy_RXP = np.einsum("rxxp->rxp", entropy_RQXP)
    n, where = int(part.is_in_P.sum()), {"stage": stage}

    def differences(mean_RX: np.ndarray) -> np.ndarray:
        return mean_RX[..., :1] - mean_RX[..., 1:]

    def margin(mean_RX: np.ndarray) -> np.ndarray:
        return mean_RX[..., 1:].min(axis=-1) - mean_RX[..., 0]

    found = part.estimate(entropy_RXP, lambda m: _with_mean_reader(differences(m)))
    readers = [*voiced, "mean"]
    findings = [
        estimated(
            NAME, "default_minus_persona", {"reader": r, **where, "persona": x}, found[i, j], n, "nats",
            "entropy of the text written and read without a persona minus that of the text written and read under one; "
            f"other texts, the same prompts; {POOLED}; {INTERVAL}",
        )
        for i, r in enumerate(readers)
        for j, x in enumerate(everybody[1:])
    ]  # fmt: skip
    found = part.estimate(entropy_RXP, lambda m: appended_mean(margin(m)))
    test = part.test(
        entropy_RXP, 1, lambda m: appended_mean(margin(m)), np.random.default_rng([data.study.seed, 22]), "greater"
    )
    for i, reader in enumerate(readers):
        findings.append(
            estimated(
                NAME, "default_margin", {"reader": reader, **where}, found[i], n, "nats",
                "least entropy among the personas, each on its own text, minus that of the default Assistant on its "
                f"own; above 0: the default has the lowest; the mean is over readers; {POOLED}; {INTERVAL}",
            )
        )  # fmt: skip
        findings[-1].notes.append(
            permutation_note(test.pvalue[i], "personas' labels shuffled within each prompt, one-sided")
        )
    return findings


def _under_others(mean_QX: np.ndarray) -> np.ndarray:
    """[..., X] mean over the personas asked for that are neither the text's own nor nobody."""
    n = mean_QX.shape[-1]
    other_QX = ~np.eye(n, dtype=bool)
    other_QX[0] = False
    return np.where(other_QX, mean_QX, 0.0).sum(axis=-2) / other_QX.sum(axis=0)


def _with_mean_reader(value_RX: np.ndarray) -> np.ndarray:
    return appended_mean(value_RX, axis=-2)


def _across(data: Data, part: Part, stage: str, voiced: list[str], everybody: list[str]) -> list[Finding]:
    """Does a model recognise its own text of a persona among other models' text of the same persona?"""
    findings = []
    n, names = int(part.is_in_P.sum()), [*voiced, "mean"]
    for persona in everybody:
        texts = [text_of(m, persona, persona) for m in voiced]
        if any(data.left_out(r, t, "assistant") for r in voiced for t in texts):
            continue
        entropy_RAP = data.table(voiced, texts, "assistant", "entropy")
        where = {"stage": stage, "persona": persona}
        rng = np.random.default_rng([data.study.seed, 23])
        test = stats.permutation_pvalue(entropy_RAP[..., part.is_in_P], rng, data.study.resamples)
        for quantity, unit, definition, statistic in (
            ("other_self_ratio", "ratio", "entropy on the others' text of a persona divided by that on own text of it, "
             "read under the persona", stats.other_self_ratio),
            ("interaction", "log units", "diagonal residual of log entropy, readers x authors, all texts of one "
             "persona, read under it", stats.interaction),
        ):  # fmt: skip
            found = part.estimate(entropy_RAP, lambda m, s=statistic: appended_mean(s(m)))
            for i, reader in enumerate(names):
                findings.append(
                    estimated(
                        NAME, quantity, {"reader": reader, **where}, found[i], n, unit, f"{definition}; {INTERVAL}"
                    )
                )
                if quantity == "interaction":
                    p = [*test.pvalue, test.mean_pvalue][i]
                    findings[-1].notes.append(permutation_note(p, "authors shuffled within each prompt, one-sided"))
    return findings


def _curves(
    data: Data, part: Part, stage: str, voiced: list[str], everybody: list[str], lengths: Sequence[int]
) -> list[Finding]:
    """Running mean of surprise over the first tokens of a persona's text, under the persona and without it."""
    findings, n = [], int(part.is_in_P.sum())
    for persona, asked in itertools.product(everybody[1:], (None, NOBODY)):
        value_RKP = np.array([_beginnings(data, r, text_of(r, persona, asked or persona), lengths) for r in voiced])
        found = part.estimate(value_RKP, _with_mean_reader)
        for r, reader in enumerate([*voiced, "mean"]):
            for k, length in enumerate(lengths):
                where = {"reader": reader, "stage": stage, "persona": persona, "asked": asked or persona}
                findings.append(
                    estimated(
                        NAME, "running_surprise", {**where, "tokens": length}, found[r, k], n, "nats",
                        "mean over prompts of the mean surprisal of a response's first tokens (all where it has "
                        f"fewer), without the end-of-turn token; {INTERVAL}",
                    )
                )  # fmt: skip
    return findings


def _beginnings(data: Data, reader: str, author: str, lengths: Sequence[int]) -> np.ndarray:
    """[K, P] mean surprisal of the first tokens of an author's passages."""
    tokens, passages = data.run.tokens(data.key(reader, author, "assistant")), data.passages(author)
    code_N, prompt_M = passage_codes(tokens, passages), np.array([data.prompt_code[p.prompt_id] for p in passages])
    position_N, is_text_N = tokens["position"].to_numpy(), ~tokens["is_end"].to_numpy()
    means = (
        stats.passage_sums(
            code_N, tokens["surprisal"].to_numpy(), len(passages), is_text_N & (position_N < length)
        ).means
        for length in lengths
    )
    return np.array([stats.prompt_means(mean_M, prompt_M, data.n_prompts) for mean_M in means])
