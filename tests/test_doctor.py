"""The doctor: planted faults are named, sound batches are not accused, numbers are those of independent formulae.

The full table of planted faults, with intervals, is docs/doctor.md's; here each fault is planted a few times.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import enaction

from enaction.doctor import Settings, diagnose
from enaction.doctor.batch import batch_of
from enaction.doctor.diagnosis import diagnosis_of
from enaction.doctor.divergence import divergence, e_value
from enaction.doctor.entropies import logged_mean
from enaction.doctor.faults import Diagnosis
from enaction.doctor.hypotheses import Hypothesis, of_columns
from enaction.doctor.naming import name_fault
from enaction.doctor.page import page_of
from enaction.doctor.settings import Sampled, sampled
from enaction.doctor.spans import by_version
from enaction.errors import PassageError, UserError
from enaction.report.sheet import write_sheet
from enaction.rollouts import Rollout, Span
from studies.doctor_faults import FAULTS, Planted, Pool, draw_rows, examine, is_right, logprobs_of, pools

# Pools of the fast tests, and beginnings of labels whose faults take a reading a batch.
_FAST = ("plain", "cold", "cut")
_MINDED = [f for f in FAULTS if "hardly minds" not in f.label]
_READ_ANEW = ("observation", "padding")


@pytest.fixture(scope="module", name="made")
def _made() -> dict[str, Pool]:
    return pools(12, set(_FAST))


@pytest.mark.parametrize("planted", [f for f in _MINDED if f.pool in _FAST], ids=lambda f: f.label)
def test_a_planted_fault_is_named_and_a_sound_batch_is_not_accused(made: dict[str, Pool], planted: Planted) -> None:
    rng = np.random.default_rng(3)
    found = [examine(planted, made[planted.pool], rng) for _ in range(1 if planted.label.startswith(_READ_ANEW) else 3)]
    assert [f.faults for f in found if not is_right(planted, f)] == []


@pytest.mark.slow
def test_planted_faults_are_named_in_95_of_100_batches_of_250_tokens() -> None:
    made = pools(86)
    rights = {}
    for planted in _MINDED:
        rng = np.random.default_rng(5)
        n = 10 if planted.label.startswith(_READ_ANEW) else 60
        rights[planted.label] = np.mean(
            [is_right(planted, examine(planted, made[planted.pool], rng)) for _ in range(n)]
        )
    # A second BOS moves the numbers of birch-rl so little that a batch of 250 tokens does not always show it.
    faint = rights.pop("BOS doubled (birch-rl)")
    assert 0.6 < faint < 0.95
    assert {label: share for label, share in rights.items() if share < 0.95} == {}


# Public faults, by their numbers.


def test_the_mean_ratio_of_a_truncated_sampler_is_the_kept_mass(made: dict[str, Pool]) -> None:
    """trl#6789: with top-p .8 the mean ratio was .896, exactly the mass that the sampler keeps."""
    pool = made["cut"]
    plain = [replace(r, trainer_logprobs=logprobs_of(pool.reader, *_ids(r))) for r in pool.rollouts]
    batch = batch_of(plain)
    found = diagnosis_of(batch, Settings(), sampled(plain, Settings()), pool.readings)
    kept = np.concatenate([s.kept_mass for s in pool.readings.truncated[0.8, 0] if s.kept_mass is not None])
    apart = found.divergences["sampler against trainer"]
    assert apart.mean_ratio == pytest.approx(kept.mean(), abs=1e-4)
    assert apart.mean_ratio < 0.99
    assert [f.name for f in found.faults] == ["truncation not accounted for"]


def test_raw_numbers_of_cold_text_are_told_from_a_wrong_statement_by_the_text(made: dict[str, Pool]) -> None:
    """trl#4159: raw log-probabilities at temperature .6; or text of temperature .6 that is said to be of 1."""
    pool = made["cold"]
    raw = [replace(r, sampler_logprobs=logprobs_of(pool.reader, *_ids(r))) for r in pool.rollouts]
    found = diagnosis_of(batch_of(raw), Settings(), sampled(raw, Settings()), pool.readings)
    assert [(f.name, f.column) for f in found.faults] == [("temperature not applied", "sampler")]
    assert "drawn as stated" in found.faults[0].says
    lied = diagnose(pool.rollouts, Settings(temperature=1.0), reader=pool.reader)
    assert [(f.name, f.column) for f in lied.faults] == [("another temperature", "both")]
    assert "what is stated is wrong" in lied.faults[0].says
    assert "0.6" in lied.faults[0].says


def _ids(rollout: Rollout) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return rollout.prompt_ids or (), rollout.token_ids or ()


# Numbers against independent formulae.


def test_divergence_is_the_plain_formulae_and_its_interval_is_by_cluster() -> None:
    rng = np.random.default_rng(0)
    p_N = -rng.exponential(size=400)
    # Tokens of a cluster share their gap: an interval over tokens would be a third as wide.
    cluster_N = np.repeat(np.arange(20), 20)
    q_N = p_N + rng.normal(0.1, 0.05, 20)[cluster_N]
    found = divergence(q_N, p_N, cluster_N, 0.05, 0.01)
    assert found is not None
    d_N = q_N - p_N
    assert float(found.kl.value) == pytest.approx(d_N.mean())
    assert float(found.k3.value) == pytest.approx((np.exp(-d_N) - 1 + d_N).mean())
    assert found.sd == pytest.approx(d_N.std())
    assert found.outside == pytest.approx(((np.exp(-d_N) < 0.9) | (np.exp(-d_N) > 1.1)).mean())
    half = 1.96 * d_N[::20].std(ddof=1) / math.sqrt(20)
    assert (float(found.kl.high) - float(found.kl.low)) / 2 == pytest.approx(half, rel=0.15)
    one = divergence(q_N, p_N, np.zeros(400, int), 0.05, 0.01)
    assert one is not None
    assert math.isnan(float(one.kl.low))


def test_e_values_reject_a_true_null_no_more_often_than_they_may() -> None:
    """Tokens drawn from q, whose chi2 to p is exactly the budget: the worst case of the null."""
    rng, c, n = np.random.default_rng(1), 0.3, 300
    # Two tokens under p = (.5, .5) and q = (.5 + a, .5 - a): chi2 = 4 a^2 = c^2.
    a = c / 2
    is_first = rng.random((4000, n)) < 0.5 + a
    log_ratio = np.where(is_first, math.log(1 + 2 * a), math.log(1 - 2 * a))
    crossed = np.mean([e_value(row, c, 0.05).crossed is not None for row in log_ratio])
    assert crossed <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)
    # And the budget is what makes it valid: without it the same tokens are rejected again and again.
    assert np.mean([e_value(row, 1e-6, 0.05).crossed is not None for row in log_ratio[:200]]) > 0.5


def test_a_fault_is_named_only_beyond_the_threshold_and_only_if_it_explains_the_column() -> None:
    rng = np.random.default_rng(2)
    truth_N = -rng.exponential(size=300)
    sound = Hypothesis("sound", truth_N, "")
    near, far = (Hypothesis(name, truth_N + by, "") for name, by in (("near", 0.004), ("far", 0.3)))
    noisy_N = truth_N + rng.normal(0, 0.05, 300)
    assert name_fault("sampler", noisy_N, [sound, near, far], 0.05, 0.01).outcome == "sound"
    off = name_fault("sampler", noisy_N + 0.3, [sound, near, far], 0.05, 0.01)
    assert (off.outcome, off.best.hypothesis.name) == ("fault", "far")
    spread = max(off.best.rms, 0.05)
    assert off.best.gain == pytest.approx(300 * (off.best.rms_sound**2 - off.best.rms**2) / (2 * spread**2))
    assert name_fault("sampler", noisy_N + 0.7, [sound, near, far], 0.05, 0.01).outcome == "other"
    few = Hypothesis("sound", truth_N[:5], "")
    assert name_fault("sampler", noisy_N[:5], [few], 0.05, 0.01).outcome == "little"
    # A few huge differences, as of a router that chose another expert, are no fault.
    noisy_N[:2] -= 9
    assert name_fault("sampler", noisy_N, [sound, near, far], 0.05, 0.01).outcome == "sound"


def test_a_logged_mean_over_other_tokens_is_told_from_the_right_one() -> None:
    rng = np.random.default_rng(4)
    mask = np.arange(60) % 3 > 0
    rollouts = [Rollout(f"{i}", f"{i}", mask=mask, entropies=rng.exponential(size=60) + 2 * ~mask) for i in range(4)]
    entropies = [r.entropies for r in rollouts if r.entropies is not None]
    batch = batch_of(rollouts)

    def said(value: float) -> tuple[str, bool]:
        logged = batch_of([replace(r, logged={"entropy": value}) for r in rollouts])
        one = logged_mean("entropy", logged, batch.entropy, 0.001)
        assert one is not None
        return one.best, one.is_right

    assert said(float(np.mean([e[mask] for e in entropies]))) == ("trained tokens", True)
    assert said(float(np.mean(entropies))) == ("all tokens, observations and padding too", False)
    assert said(float(np.mean([e[:-1][mask[1:]] for e in entropies]))) == (
        "trained tokens under a mask one token early",
        False,
    )
    assert said(7.7) == ("", False)


def test_spans_are_told_by_the_weights_that_wrote_them() -> None:
    rng = np.random.default_rng(6)
    new_N, old_N = (-rng.exponential(size=200) for _ in range(2))
    is_old_N = (np.arange(200) // 25) % 2 == 1
    given_N = np.where(is_old_N, old_N, new_N) + rng.normal(0, 0.05, 200)
    spans = (Span("new", 0, 25), Span("old", 25, 50), Span("old", 50, 75), Span("old", 75, 100))
    rollouts = [Rollout(f"{i}", "p", sampler_logprobs=given_N[i : i + 100], versions=spans) for i in (0, 100)]
    found = by_version(batch_of(rollouts), given_N, {"new": new_N, "old": old_N})
    assert [(v.label, v.fits, v.undecided) for v in found] == [("new", {"new": 2}, 0), ("old", {"old": 4, "new": 2}, 0)]


# What shows in the numbers themselves.


def _columns(n: int = 80, seed: int = 0, **others: object) -> Rollout:
    """A rollout whose sampler and trainer agree."""
    rng = np.random.default_rng(seed)
    values = -rng.exponential(size=n)
    made = Rollout(f"r{seed}", f"p{seed}", token_ids=tuple(rng.integers(5, 99, n).tolist()), sampler_logprobs=values)
    return replace(made, trainer_logprobs=values + rng.normal(0, 0.02, n), **others)  # pyright: ignore


def _said(*rollouts: Rollout) -> list[tuple[str, str]]:
    return [(fault.name, fault.column) for fault in diagnose(rollouts).faults]


def test_masks_columns_and_ids_that_are_broken_in_themselves() -> None:
    sound = [_columns(seed=i) for i in range(4)]
    assert _said(*sound) == []
    logprobs = [r.sampler_logprobs for r in sound if r.sampler_logprobs is not None]
    drawn = np.arange(80) % 10 < 7
    # No sampler has a number for what a tool wrote.
    tools = [replace(r, sampler_logprobs=np.where(drawn, q, np.nan)) for r, q in zip(sound, logprobs, strict=True)]
    assert _said(*(replace(r, mask=drawn) for r in tools)) == []
    assert _said(*(replace(r, mask=~drawn) for r in tools))[0] == ("mask inverted", "mask")
    assert _said(*(replace(r, mask=np.roll(drawn, 1)) for r in tools))[0] == ("mask shifted by one", "mask")
    assert _said(*tools)[0] == ("numbers missing", "sampler")
    zeros = [replace(r, sampler_logprobs=np.where(drawn, q, 0.0)) for r, q in zip(sound, logprobs, strict=True)]
    assert _said(*zeros) == [("placeholders counted", "sampler")]
    filled = [replace(r, sampler_logprobs=np.where(drawn, q, -9.0)) for r, q in zip(sound, logprobs, strict=True)]
    assert _said(*filled) == [("placeholders counted", "sampler")]
    # Answers to one prompt that begin alike have one number for their first token, whatever a stale trainer says.
    alike = [replace(r, sampler_logprobs=np.concatenate([[-2.0], q[1:]])) for r, q in zip(sound, logprobs, strict=True)]
    assert ("placeholders counted", "sampler") not in _said(*alike)
    assert _said(*(replace(r, trainer_logprobs=np.full(80, -1.0)) for r in sound))[0] == ("constant", "trainer")
    early = np.arange(80) < 3
    infinite = [replace(r, trainer_logprobs=np.where(early, -np.inf, q)) for r, q in zip(sound, logprobs, strict=True)]
    assert _said(*infinite) == [("infinite", "trainer")]
    assert _said(*(replace(r, trainer_logprobs=np.negative(q)) for r, q in zip(sound, logprobs, strict=True))) == [
        ("sign turned", "trainer")
    ]
    assert _said(*(replace(r, sampler_logprobs=np.exp(q)) for r, q in zip(sound, logprobs, strict=True))) == [
        ("probability, not logarithm", "sampler")
    ]
    assert _said(*(replace(r, trainer_logprobs=np.cumsum(q)) for r, q in zip(sound, logprobs, strict=True))) == [
        ("running sum", "trainer")
    ]
    tails = [(*(r.token_ids or ())[: 60 - 3 * i], *[0] * (20 + 3 * i)) for i, r in enumerate(sound)]
    assert _said(*(replace(r, token_ids=ids) for r, ids in zip(sound, tails, strict=True))) == [
        ("padding counted", "mask")
    ]
    # A policy that has run into a loop repeats itself at the end; that is no padding, for rows differ in length.
    looped = [_columns(60 + i, seed=i) for i in range(4)]
    assert _said(*(replace(r, token_ids=((r.token_ids or ())[:-9] + (7,) * 9)) for r in looped)) == []


def test_a_copy_is_no_agreement() -> None:
    copied = [replace(r, trainer_logprobs=r.sampler_logprobs) for r in (_columns(seed=i) for i in range(3))]
    found = diagnose(copied)
    assert found.is_sound
    assert any("copy" in note for note in found.notes)


def test_sound_columns_alone_are_seldom_accused() -> None:
    """At the level .01, 300 batches with the noise of the budget in each column."""
    rng = np.random.default_rng(8)
    named = 0
    for _ in range(300):
        q_N = -rng.exponential(size=240) * (rng.random(240) < 0.5)
        batch = batch_of([Rollout(f"{i}", f"{i}", sampler_logprobs=part) for i, part in enumerate(np.split(q_N, 4))])
        p_N = q_N + rng.normal(0, 0.05, 240)
        named += name_fault("trainer", p_N, of_columns(batch, q_N, p_N), 0.05, 0.01).outcome != "sound"
    assert named <= 3


# Bad input and what people see.


def test_bad_input_is_one_sentence_with_a_remedy() -> None:
    with pytest.raises(PassageError, match=r"nothing to compare.*logprobs"):
        diagnose([Rollout("a", "a", token_ids=(1, 2))])
    with pytest.raises(PassageError, match="do not belong to these tokens"):
        diagnose([Rollout("a", "a", token_ids=(1, 2, 3), sampler_logprobs=np.zeros(2))])
    with pytest.raises(PassageError, match="leave out every token"):
        diagnose([_columns(mask=np.zeros(80, bool))])
    with pytest.raises(UserError, match=r"several temperatures \(0.6, 1\)"):
        diagnose([_columns(temperature=1.0), _columns(seed=1, temperature=0.6)])
    with pytest.raises(UserError, match="temperature 0"):
        diagnose([_columns(temperature=0.0)])
    for wrong in ({"noise": 0.0}, {"level": 1.0}, {"top_p": 0.0}, {"temperature": -1.0}, {"top_k": 0}):
        with pytest.raises(UserError, match="not possible"):
            replace(Settings(), **wrong)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module", name="folder")
def _folder(made: dict[str, Pool], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of rollouts whose sampler did not apply its temperature, under the names of verl."""
    folder, pool = tmp_path_factory.mktemp("doctor"), made["cold"]
    rng = np.random.default_rng(0)
    with (folder / "raw.jsonl").open("w") as file:
        for row in draw_rows(pool, rng):
            r = pool.rollouts[row]
            raw = logprobs_of(pool.reader, *_ids(r))
            record = {"prompt": list(r.prompt or ()), "prompt_token_ids": r.prompt_ids, "token_ids": r.token_ids}
            record |= {"rollout_log_probs": raw.tolist(), "mine": np.asarray(r.trainer_logprobs).tolist()}
            file.write(json.dumps(record | {"temperature": 0.6}) + "\n")
    return folder


def test_the_command_says_the_fault_first_and_exits_by_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "120")
    line = ["doctor", "raw.jsonl", "--column", "trainer_logprobs=mine"]
    code, out, err = enaction(capsys, monkeypatch, *line, "--model", "zoo:ash-rl", "--html", "d.html")
    assert code == 0, err
    assert out.startswith("1 fault in ")
    assert "temperature not applied (sampler)" in " ".join(out.split())
    assert "temperature not applied" in (folder / "d.html").read_text()
    code, out, err = enaction(capsys, monkeypatch, *line, "--json", "--fail-on", "fault")
    assert code == 1, err
    found = json.loads(out)
    assert found["verdict"] == "fault"
    assert [f["name"] for f in found["faults"]] == ["gap beyond noise"]
    assert "drawn from the trainer's distribution" in found["faults"][0]["says"]
    for wrong, words in (
        (["--checkpoint", "old=zoo:ash-dpo"], "give --model too"),
        (["--column", "mine"], "write NAME=VALUE"),
        (["--column", "logq=mine"], "no column can be named for 'logq'"),
        (["--html", "d.txt"], "d.txt"),
        (["--noise", "0"], "not possible"),
        (["--model", "zoo:nobody"], "nobody"),
    ):
        code, _, err = enaction(capsys, monkeypatch, "doctor", "raw.jsonl", *wrong)
        assert code == 2
        assert words in err
        assert len(err.strip().splitlines()) == 1


def test_the_page_escapes_what_a_file_says(tmp_path: Path) -> None:
    found: Diagnosis = diagnose([_columns(seed=i) for i in range(3)])
    write_sheet(page_of(found), tmp_path / "d.html", about="<script>alert(1)</script>.jsonl")
    text = (tmp_path / "d.html").read_text()
    assert "<script>" not in text
    assert "No fault found" in text


def test_what_is_taken_for_the_sampling_is_said() -> None:
    assert Sampled(0.6, 0.8, 20).words == "temperature 0.6, top-p 0.8, top-k 20"
    assert any("--temperature" in note for note in diagnose([_columns()]).notes)
