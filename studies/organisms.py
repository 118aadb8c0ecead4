"""The experiment on surprise on organisms whose mechanism was designed: the table of docs/mechanism.md.

`python studies/organisms.py runs/organisms` after `python -m enaction.lab.organisms surprise mixed regime delayed
belief stranger --seed N --out runs/organisms`; with a seed on which no choice was made. About two minutes of one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from enaction import running
from enaction.findings import Findings
from enaction.shown import number, with_interval
from enaction.study.config import Study

# What each was designed to have: nats of entropy a nat of the last surprisal at equal H_t.
DESIGNED = {
    "surprise": "surprise alone",
    "mixed": "surprise and a regime",
    "regime": "a regime; surprise does nothing",
    "delayed": "a regime; surprise is used later",
    "belief": "log-odds of authorship",
}
_HEADER = (
    "organism | entropy follows | natural, nats a nat | rank 1 | rank 4 | slope, rank 1 | rotated, 10 draws | "
    "raw slope, rank 2 | verdict"
)


def main() -> None:
    """Run the study in a folder and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, help="folder with organism-NAME folders")
    parser.add_argument("--out", type=Path, default=Path("runs/on-organisms"), help="run folder (runs/on-organisms)")
    given = parser.parse_args()
    files = given.out.with_name(f"{given.out.name}-study")
    files.mkdir(parents=True, exist_ok=True)
    findings = running.run(_study(given.models, files), given.out, workers=1).findings
    print("| " + " | ".join(_HEADER.split(" | ")) + " |")
    print("|" + " --- |" * len(_HEADER.split(" | ")))
    for name, follows in DESIGNED.items():
        if findings.select("surprise_verdict", reader=name):
            print("| " + " | ".join([name, follows, *_row(findings.at(reader=name))]) + " |")


def _study(models: Path, files: Path) -> Study:
    names = [name for name in (*DESIGNED, "stranger") if (models / f"organism-{name}").exists()]
    lines = ["name: organisms", "models:"]
    lines += [
        f"  {name}: {{model: '{(models / f'organism-{name}').absolute()}', family: {name}, stage: {name}}}"
        for name in names
    ]
    lines += ["matrices:", *(f"  {name}: [{name}, stranger]" for name in names if name != "stranger")]
    lines += ["cross_stage: false", "prompts: prompts.jsonl", "framings: [none]", "resamples: 1000"]
    lines += ["sampling: {per_prompt: 2, max_new_tokens: 40}"]
    lines += ["experiments: {surprise: {passages: 2}, reaction: {}}"]
    (files / "study.yaml").write_text("\n".join(lines))
    prompts = [f'{{"id": "p{i}", "prompt": "{("low", "high")[i // 2 % 2]}"}}' for i in range(40)]
    (files / "prompts.jsonl").write_text("\n".join(prompts))
    return running.load_study(files / "study.yaml")


def _row(findings: Findings) -> list[str]:
    at = {"trace": "surprise", "key": "entropy"}
    effects = [findings.one("steering_effect", rank=rank, **at) for rank in (1, 4)]
    slope = findings.one("steering_slope", rank=1, **at)
    rotated = findings.one("control_slope", kind="rotated")
    raw = findings.one("steering_slope", trace="surprise", key="none", rank=2)
    verdict = next(iter(findings.select("surprise_verdict")))
    natural = effects[0].notes[0].removeprefix("natural: ") if effects[0] else ""
    has_effect = slope is not None and slope.estimate is not None
    return [
        natural,
        *(with_interval(effect) for effect in effects),
        with_interval(slope, 2) if has_effect else "no natural effect",
        f"{number(rotated.low, 2)} to {number(rotated.high, 2)}" if rotated and has_effect else "",
        with_interval(raw, 2),
        verdict.notes[0],
    ]


if __name__ == "__main__":
    main()
