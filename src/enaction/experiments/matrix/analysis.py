"""E1, E2 and E5: reader x author entropy at each stage and framing, and what it says of recognition.

Question: does each reader have less entropy on its own text than its own confidence and the text's difficulty explain,
which stage brings that, and does it matter whose turn the text stands in?
Procedure: every model of a stage reads every model's passages; the table of mean entropies gives the ratio, which a
critic distrusts, and the interaction, which removes reader and author main effects. Beside them stand the controls: the
family's own base on the same texts, text of the world, surprisal, and the identity residual of every reader.
Source: From Simulation to Enaction (arXiv 2605.25459), its entropy matrix, role comparison and training stages.

All cells are resampled together over prompts. Axes: R reader, A author, P prompt, B resample, S stage.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from enaction import stats
from enaction.experiments.cells import INTERVAL, POOLED, Data, NoSettings, estimated, with_mean
from enaction.experiments.matrix.along import along, ranks
from enaction.experiments.matrix.critics import controls
from enaction.experiments.matrix.quality import quality
from enaction.experiments.old_planning import Derived
from enaction.findings import Finding, permutation_note
from enaction.study.config import Study
from enaction.study.planning import Plan, Text, framing_for
from enaction.study.store import Cell
from enaction.words import WORLD, Framing, checkpoint
from enaction.world.passages import world_passages

NAME = "matrix"


class Settings(NoSettings):
    """Models, framings and world text are the study's own.

    Attributes:
        first_tokens: numbers k for the interaction over the first k tokens, and over the tokens between them.
    """

    first_tokens: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2, 4, 8, 16, 32, 64)


def plan(study: Study, _: Settings) -> Plan:
    """Every model's own text, and the world's if asked for, read by all, or within each matrix and by the bases."""
    texts: dict[str, Text] = {}
    if study.world_text:
        prompts, per_prompt = study.load_prompts(), study.sampling.per_prompt
        texts[WORLD] = Derived(
            WORLD, len(prompts) * per_prompt, lambda _: world_passages(prompts, per_prompt, study.seed)
        )
    cells = [
        Cell(reader, author, framing)
        for reader in study.models
        for framing in study.framings
        for author in _authors(study, reader)
    ]
    return Plan(texts, cells)


def _authors(study: Study, reader: str) -> list[str]:
    if study.cross_stage or study.models[reader].stage == "base":
        authors = list(study.models)
    else:
        mates = {m for members in study.groups().values() if reader in members for m in members} | {reader}
        authors = [name for name in study.models if name in mates]
    return [*authors, *([WORLD] if study.world_text else [])]


def analyse(data: Data, settings: Settings) -> list[Finding]:
    """All findings of this experiment, from the token tables of a finished run."""
    findings = [*_identity(data), *_entropies(data), *quality(data)]
    for stage, members in data.study.groups().items():
        for framing in data.study.framings:
            findings += _recognition(data, stage, members, framing)
            findings += controls(data, stage, members, framing)
            findings += ranks(data, stage, members, framing)
            findings += along(data, stage, members, framing, sorted(set(settings.first_tokens)))
    return [*findings, *_changes(data)]


def _identity(data: Data) -> list[Finding]:
    """The alarm: every reader on its own text, in the framing it was sampled in."""
    sampled_plainly = data.study.sampling.temperature == 1 and data.study.sampling.top_p == 1
    if not sampled_plainly:
        return []
    findings = []
    for name in data.study.models:
        framing = data.own_framing[name]
        cell = Cell(name, name, framing)
        if cell not in data.cells:
            continue
        tokens = data.run.tokens(cell)
        columns = [tokens[c].to_numpy() for c in ("surprisal", "entropy", "varentropy")]
        found = stats.identity_residual(*columns)
        where = {"reader": name, "stage": data.study.models[name].stage, "framing": framing}
        notes = []
        if found.is_alarming:
            notes.append(f"outside +-{stats.IDENTITY_LIMIT:g}: template, tokenisation, temperature or cache is wrong")
        findings.append(
            Finding(
                NAME,
                "identity_residual",
                where,
                found.standardised,
                found.standardised - 1.96,
                found.standardised + 1.96,
                found.n_tokens,
                "standard deviations",
                "sum(s - H) / sqrt(sum V) over all tokens of the reader's own text, end-of-turn included, in the "
                "framing it was sampled in; about N(0, 1) if all is well; n counts tokens",
                notes,
            )
        )
        half = 1.96 * found.standard_error
        findings.append(
            Finding(
                NAME,
                "identity_gap",
                where,
                found.mean,
                found.mean - half,
                found.mean + half,
                found.n_tokens,
                "nats",
                "mean of s - H over the same tokens; interval from the predictable variance; n counts tokens",
            )
        )
    return findings


def _entropies(data: Data) -> list[Finding]:
    """Entropy and surprisal of every cell, and the largest entropy of one passage on own text."""
    findings = []
    for cell in data.cells:
        if cell.author not in data.study.models and cell.author != WORLD:
            continue
        means = data.means(cell)
        where = {
            "reader": cell.reader,
            "author": cell.author,
            "framing": cell.framing,
            "reader_stage": data.study.models[cell.reader].stage,
            "author_stage": WORLD if cell.author == WORLD else data.study.models[cell.author].stage,
        }
        found = data.estimate(np.array([means.entropy, means.surprisal]))
        n = int(np.isfinite(means.entropy).sum())
        for i, quantity in enumerate(("entropy", "surprisal")):
            findings.append(estimated(NAME, quantity, where, found[i], n, "nats", f"{quantity}: {POOLED}; {INTERVAL}"))
        if cell.author == cell.reader:
            findings.append(
                Finding(
                    NAME,
                    "entropy_item_max",
                    where,
                    means.largest,
                    None,
                    None,
                    n,
                    "nats",
                    "largest mean entropy of one passage of the cell: far above its mean, a few passages carry it",
                )
            )
    return findings


def _recognition(data: Data, stage: str, members: list[str], framing: Framing) -> list[Finding]:
    """Ratio, interaction, their split and variants, of each reader of a matrix and in the mean."""
    entropy_RAP = data.table(members, members, framing, "entropy")
    n = int(np.isfinite(entropy_RAP).all(axis=(0, 1)).sum())
    where = {"stage": stage, "framing": framing, "authors": members}
    plain = [m for m in members if framing_for(data.own_framing[m], framing) != framing]
    notes = [f"{m} has no chat template and is read without one" for m in plain]

    def per_reader(quantity: str, unit: str, definition: str, statistic: Any, **values: np.ndarray) -> list[Finding]:
        found = data.estimate(values.get("value", entropy_RAP), with_mean(statistic), values.get("size"))
        made = [
            estimated(NAME, quantity, {"reader": reader, **where}, found[i], n, unit, f"{definition}; {INTERVAL}")
            for i, reader in enumerate([*members, "mean"])
        ]
        for finding in made:
            finding.notes.extend(notes)
        return made

    ratio = "mean entropy over the other authors' text divided by entropy on the reader's own"
    findings = per_reader("other_self_ratio", "ratio", f"{ratio}; entropy: {POOLED}", stats.other_self_ratio)
    findings += per_reader(
        "other_self_ratio_token_weighted",
        "ratio",
        f"{ratio}; entropy: mean over all tokens",
        stats.other_self_ratio,
        value=data.table(members, members, framing, "token_entropy"),
        size=data.table(members, members, framing, "token_count"),
    )
    findings += per_reader(
        "other_self_ratio_per_byte",
        "ratio",
        f"{ratio}; entropy: nats per byte of text, comparable across tokenizers",
        stats.other_self_ratio,
        value=data.table(members, members, framing, "byte_entropy"),
        size=data.table(members, members, framing, "byte_count"),
    )
    diagonal = "diagonal residual of log entropy after reader and author main effects; below 0: recognition"
    test = stats.permutation_pvalue(entropy_RAP, np.random.default_rng([data.study.seed, 2]), data.study.resamples)
    interactions = per_reader("interaction", "log units", diagonal, stats.interaction)
    for finding, p in zip(interactions, [*test.pvalue, test.mean_pvalue], strict=True):
        finding.notes.append(permutation_note(p, "authors shuffled within each prompt, one-sided"))
    findings += interactions
    clipped_RAP = np.minimum(entropy_RAP, np.nanquantile(entropy_RAP, 0.95, axis=-1, keepdims=True))
    findings += per_reader(
        "interaction_clipped",
        "log units",
        f"{diagonal}; each cell's prompts clipped at its 95th percentile, so that no few items carry it",
        stats.interaction,
        value=clipped_RAP,
    )
    for i, (quantity, definition) in enumerate(
        (
            ("log_ratio", "log of the geometric-mean other/self ratio = recognition + ease"),
            ("recognition", "part of log_ratio that reader and author effects do not explain: -N/(N-1) * interaction"),
            ("ease", "part of log_ratio from text: mean author effect of the others minus that of the reader's own"),
        )
    ):
        findings += per_reader(quantity, "log units", definition, lambda m, i=i: stats.log_ratio_split(m)[i])
    return findings


def _changes(data: Data) -> list[Finding]:
    """How the interaction changes from each stage to the next, and over a stage from before its first checkpoint."""
    groups = data.study.groups()
    names = list(groups)
    families = {name: [data.study.models[m].family for m in members] for name, members in groups.items()}
    findings = []
    for i, after in enumerate(names):
        alike = [name for name in names[:i] if families[name] == families[after]]
        outside = [name for name in alike if (checkpoint(name) or (name, 0))[0] != after]
        if alike and alike[-1] == names[i - 1]:
            findings += _change(data, "interaction_change", alike[-1], after)
        if outside and outside[-1] != alike[-1]:
            findings += _change(data, "interaction_change_over_stage", outside[-1], after)
    return findings


def _change(data: Data, quantity: str, before: str, after: str) -> list[Finding]:
    """The interaction of each reader of a matrix, and of their mean, minus that of another matrix."""
    first, second = (data.study.groups()[name] for name in (before, after))
    findings = []
    for framing in data.study.framings:
        entropy_SRAP = np.array([data.table(g, g, framing, "entropy") for g in (first, second)])
        found = data.estimate(
            entropy_SRAP,
            with_mean(lambda m: stats.interaction(m[..., 1, :, :]) - stats.interaction(m[..., 0, :, :])),
        )
        findings += [
            estimated(
                NAME,
                quantity,
                {"reader": reader, "stage": after, "from_stage": before, "framing": framing},
                found[i],
                data.n_prompts,
                "log units",
                f"interaction at this stage minus interaction at {before}, same prompts; {INTERVAL}",
            )
            for i, reader in enumerate([*second, "mean"])
        ]
    return findings
