"""Which parts of the small family's recipe matter: train each stage again without one part, from the shipped models.

    python studies/ablations.py sft --out runs/ablations     # half an hour on one core; goes on where it was cut short
    python studies/ablations.py rl --out runs/ablations      # an hour

Needs `pip install 'enaction[lab]'`. Every variant is trained for all three families with their own seeds, then read
like any other stage; the table that is printed is the one in docs/zoo.md.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from enaction import zoo
from enaction.experiments import analyse
from enaction.findings import Finding, Findings, select, write_findings
from enaction.lab.build import build_step
from enaction.lab.recipes import MAIN, RECIPES
from enaction.running import run_study
from enaction.study.config import Study

VARIANTS: dict[str, dict[str, dict[str, float]]] = {
    "sft": {
        "sft-as-shipped": {},
        "sft-no-replay": {"replay_share": 0.0},
        "sft-house-only": {"house_share": 1.0, "persona_share": 0.0},
    },
    "rl": {"rl-as-shipped": {}, "rl-no-mix": {"replay": 0.0}},
}
START = {"sft": "base", "rl": "dpo"}
FRAMINGS = ("assistant", "user", "none")


def train(stage: str, variant: str, changes: dict[str, Any], out: Path) -> dict[str, Path]:
    """Family -> folder of the stage trained from the shipped one before it, with changes to its recipe."""
    trained = {}
    for family in MAIN:
        start = out / variant / family / START[stage]
        if not start.exists():
            shutil.copytree(zoo.path(f"{family}-{START[stage]}"), start)
        shipped = RECIPES[family]
        changed: dict[str, Any] = {stage: replace(getattr(shipped, stage), **changes)}
        recipe = replace(shipped, kept_steps=(), **changed)
        build_step(recipe, stage, out / variant, lambda family, _, done, total: _tell(variant, family, done, total))
        trained[family] = out / variant / family / stage
    return trained


def measure(variants: dict[str, dict[str, Path]], n_prompts: int, out: Path) -> Findings:
    """One matrix a variant, in every framing."""
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
            "n_prompts": n_prompts,
            "framings": list(FRAMINGS),
            "sampling": {"per_prompt": 1, "max_new_tokens": 110},
            "seed": 1,
        }
    )
    return analyse(study, run_study(study, out))


def table(findings: Findings, variants: list[str]) -> str:
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
        own, foreign = [], {"entropy": [], "surprisal": []}
        for quantity in foreign:
            for cell in select(findings, quantity, reader_stage=variant, framing="assistant"):
                if cell.where["reader"] == cell.where["author"]:
                    own += [cell.estimate] if quantity == "entropy" else []
                else:
                    foreign[quantity].append(cell.estimate)
        means = [f"{sum(values) / len(values):.2f}" for values in (own, *foreign.values())]
        rows.append(f"| {variant} | {' | '.join(shown)} | {means[0]} | {means[1]} / {means[2]} |")
    return "\n".join(rows)


def _interval(found: Finding) -> str:
    return f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _tell(variant: str, family: str, done: int, total: int) -> None:
    print(f"\r{variant} {family} {done}/{total} ", end="" if done < total else "\n", flush=True)


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=VARIANTS)
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--prompts", type=int, default=72)
    given = parser.parse_args()
    variants = {v: train(given.stage, v, changes, given.out) for v, changes in VARIANTS[given.stage].items()}
    folder = given.out / f"{given.stage}-read"
    findings = measure(variants, given.prompts, folder)
    write_findings(folder / "findings.json", findings)
    print(table(findings, list(variants)))


if __name__ == "__main__":
    main()
