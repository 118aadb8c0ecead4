"""Which parts of the small families' recipe matter: stages and arms trained again without one part, and read alike.

    python studies/ablations.py sft --out runs/ablations     # SFT from the shipped base; half an hour on one core
    python studies/ablations.py rl --out runs/ablations      # all arms of RL; those that do not ship: an hour

Needs `pip install 'enaction[lab]'`; goes on where it was cut short. Every variant is trained for all three families
with their own seeds, then read like any other stage, on prompts that post-training never had (`--seen`: that it had).
The table that is printed is the one in docs/zoo.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from enaction import zoo
from enaction.experiments import analyse
from enaction.experiments.commitment.labels import LabelSpec
from enaction.findings import Finding, Findings, select, write_findings
from enaction.lab.build import build_step
from enaction.lab.recipes import ARMS, MAIN, RECIPES, Recipe
from enaction.passages import read_passages
from enaction.running import run_study
from enaction.study.config import Study
from enaction.words import STAGES, Framing
from enaction.world.stories import grade, style_match

SFT_VARIANTS: dict[str, dict[str, float]] = {
    "sft-as-shipped": {},
    "sft-no-replay": {"replay_share": 0.0},
    "sft-house-only": {"house_share": 1.0, "persona_share": 0.0},
}
FRAMINGS: tuple[Framing, ...] = ("assistant", "user", "none")
Variants = dict[str, dict[str, Path]]
"""Variant -> family -> folder of its weights."""


def sft_variants(out: Path) -> Variants:
    """SFT trained from the shipped base, with changes to its recipe."""
    trained: Variants = {variant: {} for variant in SFT_VARIANTS}
    for variant, changes in SFT_VARIANTS.items():
        for family in MAIN:
            shipped = RECIPES[family]
            recipe = replace(shipped, sft=replace(shipped.sft, **changes))
            trained[variant][family] = _trained(recipe, "sft", out / variant, variant)
    return trained


def arms(names: Sequence[str], out: Path) -> Variants:
    """All stages and these arms of RL: as shipped, or trained from the shipped DPO model."""
    stages = [*STAGES, *(f"rl-{arm}" for arm in names)]
    shipped = zoo.names(everything=True)
    return {
        stage: {
            family: zoo.path(f"{family}-{stage}")
            if f"{family}-{stage}" in shipped
            else _trained(RECIPES[family], stage, out / "arms", stage)
            for family in MAIN
        }
        for stage in stages
    }


def _trained(recipe: Recipe, stage: str, out: Path, variant: str) -> Path:
    """The folder of a stage, trained from the shipped one before it unless it is there."""
    before = STAGES[STAGES.index(stage.partition("-")[0]) - 1]
    start = out / recipe.family / before
    if not start.exists():
        shutil.copytree(zoo.path(f"{recipe.family}-{before}"), start)
    build_step(recipe, stage, out, lambda family, _, done, total: _tell(variant, family, done, total))
    return out / recipe.family / stage


def measure(variants: Variants, framings: Sequence[Framing], out: Path, *, seen: bool) -> Findings:
    """One matrix a variant, on the held-out requests for stories or on those that post-training had."""
    asked = out.with_suffix(".prompts.jsonl")
    asked.parent.mkdir(parents=True, exist_ok=True)
    asked.write_text("".join(json.dumps(vars(prompt)) + "\n" for prompt in zoo.prompts(seen=seen)))
    models = {
        f"{family}-{variant}": {"model": str(folder.resolve()), "family": family, "stage": variant}
        for variant, folders in variants.items()
        for family, folder in folders.items()
    }
    study = Study.model_validate(
        {
            "name": out.name,
            "models": models,
            "matrices": {v: [f"{family}-{v}" for family in folders] for v, folders in variants.items()},
            "cross_stage": False,
            "prompts": str(asked.resolve()),
            "framings": list(framings),
            "sampling": {"per_prompt": 1, "max_new_tokens": 110},
            "seed": 1,
        }
    )
    return analyse(study, run_study(study, out))


def sft_table(findings: Findings, variants: list[str]) -> str:
    """Interaction in each framing, ratio, and what own and foreign text cost, Markdown."""
    rows = [
        "| variant | assistant | user | none | ratio | own entropy | foreign entropy / surprisal |",
        "|---" * 7 + "|",
    ]
    for variant in variants:
        shown = [
            _interval(*select(findings, "interaction", reader="mean", stage=variant, framing=framing))
            for framing in FRAMINGS
        ]
        shown += [_interval(*select(findings, "other_self_ratio", reader="mean", stage=variant, framing="assistant"))]
        own, entropy, surprisal = _costs(findings, variant)
        rows.append(f"| {variant} | {' | '.join(shown)} | {np.mean(own):.2f} | {entropy:.2f} / {surprisal:.2f} |")
    return "\n".join(rows)


def arms_table(findings: Findings, variants: Variants, run: Path, *, seen: bool) -> str:
    """Interaction, what own and foreign text cost, and what can be verified in the texts, Markdown."""
    rows = [
        "| stage | interaction | of each | own entropy | foreign entropy / surprisal | house style | commonest hero "
        "| commonest arc | complete | on topic |",
        "|---" * 10 + "|",
    ]
    topics = {prompt.id: request.topic for request, prompt in zoo.asked(seen=seen)}
    for variant, folders in variants.items():
        at = {"stage": variant, "framing": "assistant"}
        each = [select(findings, "interaction", reader=f"{family}-{variant}", **at)[0].estimate for family in folders]
        own, entropy, surprisal = _costs(findings, variant)
        facts = [_facts(family, run / "passages" / f"{family}-{variant}.parquet", topics) for family in folders]
        told = [" ".join(f"{value:.2f}" for value in of_kind) for of_kind in (own, *zip(*facts, strict=True))]
        told.insert(1, f"{entropy:.2f} / {surprisal:.2f}")
        shown = _interval(*select(findings, "interaction", reader="mean", **at))
        rows.append(f"| {variant} | {shown} | {' '.join(f'{e:.2f}' for e in each)} | {' | '.join(told)} |")
    return "\n".join(rows)


def _costs(findings: Findings, variant: str) -> tuple[list[float], float, float]:
    """Entropy of each reader on its own text; mean entropy and mean surprisal on the others', nats."""
    own, foreign = [], {"entropy": [], "surprisal": []}
    for quantity in foreign:
        for cell in select(findings, quantity, reader_stage=variant, framing="assistant"):
            if cell.where["reader"] == cell.where["author"]:
                own += [cell.estimate] if quantity == "entropy" else []
            else:
                foreign[quantity].append(cell.estimate)
    return own, float(np.mean(foreign["entropy"])), float(np.mean(foreign["surprisal"]))


def _facts(family: str, file: Path, topics: dict[str, str | None]) -> tuple[float, float, float, float, float]:
    """House style, shares of the commonest hero and arc, completeness, share on topic of a model's stories."""
    passages = read_passages(file)
    grades = [grade(p.response, topics[p.prompt_id]) for p in passages]
    house, label = RECIPES[family].house_voice(), LabelSpec(name="hero", world="hero").labeller()
    heroes = [hero.value if (hero := label(p.response)) else None for p in passages]
    return (
        float(np.mean([style_match(g.choices, house) for g in grades])),
        _top_share(heroes),
        _top_share([g.arc for g in grades]),
        float(np.mean([g.complete for g in grades])),
        float(np.mean([g.on_topic for g in grades])),
    )


def _top_share(named: Sequence[str | None]) -> float:
    return Counter(named).most_common(1)[0][1] / len(named)


def _interval(found: Finding) -> str:
    return f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _tell(variant: str, family: str, done: int, total: int) -> None:
    print(f"\r{variant} {family} {done}/{total} ", end="" if done < total else "\n", flush=True)


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("sft", "rl"))
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS, help="of RL, beside the main one")
    parser.add_argument("--seen", action="store_true", help="on the requests that post-training had")
    given = parser.parse_args()
    variants = sft_variants(given.out) if given.stage == "sft" else arms(given.arms, given.out)
    framings = FRAMINGS if given.stage == "sft" else FRAMINGS[:1]
    folder = given.out / f"{given.stage}-{'seen' if given.seen else 'held-out'}"
    findings = measure(variants, framings, folder, seen=given.seen)
    write_findings(folder / "findings.json", findings)
    if given.stage == "sft":
        print(sft_table(findings, list(variants)))
    else:
        print(arms_table(findings, variants, folder, seen=given.seen))


if __name__ == "__main__":
    main()
