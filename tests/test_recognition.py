"""Verdicts on planted tables: whatever else bends a table, nobody is certified but who recognises, and that one is.

Passages are numbers: a reader's log entropy is its level plus its slope times the difficulty of the passage, with
heavy-tailed noise of its own, less recognition on own text, which has a tail too. The last reader is the one that may
recognise. Every kind comes as a null and with recognition planted in that reader alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import handmade
import numpy as np
import pytest
import torch
from scipy.stats import binom
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from enaction import stats, zoo
from enaction.analysis.verdicts import verdicts_of
from enaction.experiments import analyse, pages
from enaction.findings import Finding, Findings
from enaction.running import run_study
from enaction.study.config import Study

PROMPTS, SAMPLES = 40, 2
PLANTED = 0.8

Kind = Callable[[int], dict[str, np.ndarray]]


def _even(n: int) -> dict[str, np.ndarray]:
    return {"slope": np.ones(n), "level": np.zeros(n), "ease": np.zeros(n)}


def _easy_and_hard(n: int) -> dict[str, np.ndarray]:
    return _even(n) | {"ease": np.r_[0.5, -0.5, np.zeros(n - 2)]}


def _flat(n: int) -> dict[str, np.ndarray]:
    """A reader of random weights: as uncertain of everything. Its own text is hard for all others."""
    return _easy_and_hard(n) | {"slope": np.r_[0.0, np.ones(n - 1)], "level": np.r_[2.0, np.zeros(n - 1)],
                                "ease": np.r_[-0.5, np.linspace(-0.2, 0.5, n - 1)]}  # fmt: skip


def _hot(n: int) -> dict[str, np.ndarray]:
    """A reader at a high temperature: a weak response, at a high level."""
    return _flat(n) | {"slope": np.r_[0.3, np.ones(n - 1)]}


def _base(n: int) -> dict[str, np.ndarray]:
    """A base beside post-trained readers, which respond more; its own text is the hardest."""
    return _even(n) | {"slope": np.r_[1.0, np.full(n - 1, 1.6)], "ease": np.r_[-0.4, np.zeros(n - 1)]}


def _sharp(n: int) -> dict[str, np.ndarray]:
    return _easy_and_hard(n) | {"level": np.r_[-2.0, np.zeros(n - 1)]}


def _clones(n: int) -> dict[str, np.ndarray]:
    """Two names of one model: `_passages` gives both the same noise."""
    return _easy_and_hard(n) | {"ease": np.zeros(n), "clones": np.ones(1)}


KINDS: dict[str, Kind] = {
    "even": _even, "easy and hard authors": _easy_and_hard, "flat": _flat, "hot": _hot, "base": _base,
    "always sharp": _sharp, "clones": _clones,
}  # fmt: skip


def _passages(rng: np.random.Generator, kind: dict[str, np.ndarray], recognition: float) -> list[np.ndarray]:
    """For each author [R, M] log mean entropy of its passages."""
    n, parts = len(kind["slope"]), []
    prompt = np.repeat(rng.normal(size=PROMPTS), SAMPLES) * 0.04
    for author in range(n):
        difficulty = prompt + 0.08 * rng.normal(size=prompt.size) - kind["ease"][author]
        noise = 0.06 * rng.standard_t(4, size=(n, prompt.size)) / np.sqrt(2)
        if "clones" in kind:
            noise[1] = noise[0]
        log_RM = kind["level"][:, None] + kind["slope"][:, None] * difficulty + noise
        if author == n - 1:
            log_RM[author] -= recognition - 0.3 * (rng.gamma(1.0, size=prompt.size) - 1) * bool(recognition)
        parts.append(log_RM)
    return parts


def _findings(parts: list[np.ndarray]) -> Findings:
    """The witnesses of a table of passages, without matched gaps, which need tokens."""
    n, codes = len(parts), np.repeat(np.arange(PROMPTS), SAMPLES)
    log_RAP = np.array([[part[r].reshape(PROMPTS, SAMPLES).mean(axis=1) for part in parts] for r in range(n)])
    table = stats.Resampled(log_RAP, np.ones((1, PROMPTS), dtype=int))
    adjusted = stats.adjusted_recognition(parts, [codes] * n)
    witnesses = {
        "recognition": table.jackknife(stats.foreign_recognition),
        "recognition_adjusted": adjusted.recognition,
        "difficulty_slope": adjusted.slope,
    }
    return Findings(_written(witnesses))


def _written(witnesses: dict[str, stats.Estimate]) -> Iterable[Finding]:
    for quantity, estimate in witnesses.items():
        for reader in range(len(estimate.value)):
            value, low, high = (
                float(x[reader]) if np.isfinite(x[reader]) else None
                for x in (estimate.value, estimate.low, estimate.high)
            )
            where = {"reader": f"r{reader}"}
            yield Finding("matrix", quantity, where, value, low, high, PROMPTS, "log units", "", null=0.0)


def _counted(kind: str, n: int, recognition: float, seeds: int) -> tuple[int, int, list[float]]:
    """Tables that certify somebody else than the last reader, tables that certify it, its recognition in each."""
    false, true, values = 0, 0, []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, n, len(kind)])
        findings = _findings(_passages(rng, KINDS[kind](n), recognition))
        certified = {v.reader for v in verdicts_of(findings) if v.is_certified}
        last = f"r{n - 1}"
        false, true = false + bool(certified - {last}), true + (last in certified)
        values.append(findings.select("recognition_adjusted", reader=last)[0].estimate or np.nan)
    return false, true, values


@pytest.mark.parametrize("n", [3, 4, 6])
def test_nobody_is_certified_where_nobody_recognises(n: int) -> None:
    seeds = 12
    counts = {kind: sum(_counted(kind, n, 0.0, seeds)[:2]) for kind in KINDS}
    assert sum(counts.values()) <= binom.ppf(0.999, seeds * len(KINDS), 0.05), counts


@pytest.mark.parametrize("n", [3, 4, 6])
def test_one_recogniser_is_certified_alone_and_at_its_size(n: int) -> None:
    seeds = 8
    for kind in KINDS:
        false, true, values = _counted(kind, n, PLANTED, seeds)
        assert false <= binom.ppf(0.999, seeds, 0.05), (kind, false)
        # Among three readers each passage has one judge, and beside a flat one there may be nobody to judge own text.
        least = seeds - 2 if n > 3 else 0 if kind in ("flat", "hot") else seeds // 2
        assert true >= least, (kind, true)
        if n > 3:
            assert np.median(values) == pytest.approx(PLANTED, abs=0.2), kind


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 4, 6])
@pytest.mark.parametrize("kind", [*KINDS])
def test_false_certificates_are_rare_over_many_tables(kind: str, n: int) -> None:
    seeds = 300
    false, true, _ = _counted(kind, n, 0.0, seeds)
    planted_false, found, values = _counted(kind, n, PLANTED, seeds)
    print(
        f"{kind}, {n} readers: null tables with a certificate {(false + true) / seeds:.3f}; planted: others certified "
        f"{planted_false / seeds:.3f}, recogniser certified {found / seeds:.3f}, median {np.nanmedian(values):.3f}"
    )
    limit = binom.ppf(0.99, seeds, 0.05)
    assert false + true <= limit
    assert planted_false <= limit


# The whole way, on token tables.


def _normal(*names: object) -> float:
    return float(np.random.default_rng([*repr(names).encode()]).normal())


def _tables() -> handmade.Reading:
    """`ash-rl` recognises; but for that all respond alike to how difficult a text is."""

    def entropy(reader: str, author: str, prompt: int, position: int) -> float:
        difficulty = {"ash": 0.1, "birch": 0.0, "cedar": -0.1, "dove": 0.05}[author.partition("-")[0]]
        log = difficulty + 0.12 * _normal(author, prompt) + 0.05 * _normal(author, prompt, reader)
        log += 0.3 * _normal(author, prompt, position)  # the same for all readers, as hard places of a text are
        if reader == "ash-rl" and author == reader:
            log -= PLANTED
        return float(np.exp(log))

    return handmade.at_positions(entropy)


def _study(folder: Path, n: int) -> Study:
    families = ("ash", "birch", "cedar", "dove")[:n]
    path = folder / "prompts.jsonl"
    path.write_text("".join(f'{{"id": "p{i}", "prompt": "question {i}"}}\n' for i in range(PROMPTS)))
    models = {f"{f}-rl": {"model": "nowhere", "family": f, "stage": "rl"} for f in families}
    return Study.model_validate(
        {"name": "planted", "models": models, "prompts": str(path), "framings": ["assistant"], "resamples": 200,
         "experiments": {"matrix": {}}, "sampling": {"per_prompt": 1}, "world_text": False}
    )  # fmt: skip


@pytest.mark.parametrize("n", [3, 4])
def test_a_run_certifies_the_planted_reader_alone_and_says_so(tmp_path: Path, n: int) -> None:
    study = _study(tmp_path, n)
    run = handmade.run(study, tmp_path / "run", _tables())
    findings = analyse(study, run)
    verdicts = {f.where["reader"]: f for f in findings.select("recognised")}
    assert len(verdicts) == n
    assert [reader for reader, f in verdicts.items() if f.estimate == 1] == ["ash-rl"]
    assert verdicts["ash-rl"].notes[-1].startswith("certified: recognition 0.")
    for quantity in ("recognition", "recognition_adjusted"):
        found = findings.one(quantity, reader="ash-rl")
        assert found is not None
        assert found.estimate == pytest.approx(PLANTED, abs=0.2)
    said = " ".join(pages(study, findings)["matrix"].sentences)
    assert "certified: ash-rl, not birch-rl" in said


def test_a_run_of_two_has_one_number_and_names_nobody(tmp_path: Path) -> None:
    study = _study(tmp_path, 2)
    run = handmade.run(study, tmp_path / "run", _tables())
    findings = analyse(study, run)
    for quantity in ("interaction", "interaction_of_means", "interaction_per_byte", "recognition"):
        assert [f.where["reader"] for f in findings.select(quantity)] == ["mean"], quantity
    assert not findings.select("recognised")
    shown = pages(study, findings)["matrix"]
    said = " ".join(shown.sentences)
    assert "one number for both readers" in said
    told = [s for s in shown.sentences if "identity residual" not in s]
    told += [str(row) for grid in shown.grids for row in grid.rows if not grid.title.startswith("Identity")]
    assert not any("2 of 2" in text or "of 2 readers" in text for text in told)
    assert "recognition of both readers together" in said


@pytest.mark.slow
def test_a_reader_of_random_weights_is_flat_beside_trained_ones(tmp_path: Path) -> None:
    """An embedded model with its weights drawn anew; by all cells it inherits the recognition of the other two."""
    config = AutoConfig.from_pretrained(zoo.path("ash-rl"))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "random")
    AutoTokenizer.from_pretrained(zoo.path("ash-rl")).save_pretrained(tmp_path / "random")
    names = {"random": str(tmp_path / "random"), "ash-rl": "zoo:ash-rl", "birch-rl": "zoo:birch-rl"}
    study = Study.model_validate(
        {"name": "random", "models": {n: {"model": m, "family": n} for n, m in names.items()}, "n_prompts": 40,
         "framings": ["assistant"], "experiments": {"matrix": {}}, "resamples": 500, "world_text": False,
         "sampling": {"per_prompt": 2, "max_new_tokens": 96}}
    )  # fmt: skip
    findings = analyse(study, run_study(study, tmp_path / "run"))
    (found,) = findings.select("recognised", reader="random")
    print([(f.where["reader"], f.notes) for f in findings.select("recognised")])
    assert found.estimate == 0
    assert found.notes[-1].startswith("flat")
