"""The embedded models: what ships is what its card says, and it shows what the zoo is for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from enaction import stats, zoo
from enaction.errors import ModelError
from enaction.experiments import analyse
from enaction.findings import select
from enaction.lab.recipes import RECIPES
from enaction.passages import Message, Passage, Prompt, Sampling, thinned
from enaction.reader import Reader
from enaction.running import load_study, run_study
from enaction.sampling import sample
from enaction.study.config import ModelSpec, Study
from enaction.tokens import score_passages
from enaction.world.chats import EVERYTHING, SEEN, Writers, draw_any_request, persona_turn
from enaction.world.lexicon import PERSONAS
from enaction.world.stories import tell

FAMILIES, STAGES = ("ash", "birch", "cedar"), ("base", "sft", "dpo", "rl")


MAIN = [f"{family}-{stage}" for family in FAMILIES for stage in STAGES]
SNAPSHOTS = [f"{family}-rl60" for family in FAMILIES]
ARMS = [f"{family}-rl-{arm}" for family in FAMILIES for arm in ("seed2", "paid")]
REAL = [f"smollm2-{stage}" for stage in ("sft", "dpo", "rl-a30", "rl-a45", "rl-a", "rl-b", "rl-c", "rl-d")]
KIN = ["ash-rl-int8", "ash2-dpo", "ash2-rl", "ash3-base"]
EMBEDDED = MAIN + ARMS + SNAPSHOTS + KIN


def test_zoo_holds_every_stage_of_every_family_and_the_donors_within_its_size() -> None:
    assert zoo.names() == MAIN
    everything = [name for name in zoo.names(everything=True) if zoo.kind(name) not in ("real", "organism")]
    assert sorted(everything) == sorted(EMBEDDED)
    stages = ("base", "sft", "dpo", "rl60", "rl", "rl-int8", "rl-paid", "rl-seed2")
    assert everything[:8] == [f"ash-{stage}" for stage in stages]
    sizes = [sum(f.stat().st_size for f in zoo.path(name).iterdir()) for name in everything]
    assert max(sizes) <= 4e6
    assert sum(sizes) <= 50e6
    assert [name for name in zoo.names(everything=True) if zoo.kind(name) == "real"] == REAL
    assert sum(f.stat().st_size for name in REAL for f in zoo.path(name).iterdir()) <= 40e6


def test_a_name_says_what_a_model_is() -> None:
    said = {name: (zoo.family(name), zoo.stage(name), zoo.kind(name)) for name in EMBEDDED}
    assert said["birch-dpo"] == ("birch", "dpo", "main")
    assert said["cedar-rl60"] == ("cedar", "rl60", "snapshot")
    assert said["birch-rl-paid"] == ("birch", "rl-paid", "arm")
    assert said["ash-rl-seed2"] == ("ash", "rl-seed2", "arm")
    assert said["ash2-rl"] == ("ash2", "rl", "kin")
    assert said["ash3-base"] == ("ash3", "base", "kin")
    assert said["ash-rl-int8"] == ("ash", "rl", "kin")
    assert {kind for _, _, kind in said.values()} == {"main", "arm", "snapshot", "kin"}
    assert len({zoo.note(name) for name in said}) == len(said)
    unshipped = [f"ash-rl-{arm}" for arm in RECIPES["ash"].arms if f"ash-rl-{arm}" not in said]
    assert {zoo.kind(name) for name in unshipped} == {"arm"}
    assert len({zoo.note(name) for name in unshipped}) == len(unshipped) == 4
    for wrong in ("ash-final", "ash-rl-bought", "ash-rl-seed2-replay"):
        with pytest.raises(ModelError, match="not a name of the zoo"):
            zoo.family(wrong)


@pytest.mark.parametrize("name", REAL)
def test_an_adapter_is_small_float16_and_names_its_base_and_no_machine(name: str) -> None:
    folder = zoo.path(name)
    assert sum(f.stat().st_size for f in folder.iterdir()) <= 6e6
    base = json.loads((folder / "base.json").read_text())
    card = zoo.card(name)
    assert base["sha256"] in card
    assert zoo.note(name).lower() in card.lower()
    for section in ("## Data and recipe", "## Training log", "## Its text", "## What it cannot show"):
        assert section in card
    if name != "smollm2-sft":
        with safe_open(folder / "adapter_model.safetensors", framework="numpy") as weights:
            assert {weights.get_tensor(key).dtype for key in weights.keys()} == {np.dtype("float16")}  # noqa: SIM118
        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == base["file"]


def test_prompts_of_every_kind_have_ids_of_their_own() -> None:
    counts: dict[zoo.PromptKind, tuple[int, int]] = {"stories": (86, 76), "questions": (160, 128), "names": (5, 10)}
    for kind, (n_held_out, n_seen) in counts.items():
        held_out, seen = zoo.prompts(kind), zoo.prompts(kind, seen=True)
        assert (len(held_out), len(seen)) == (n_held_out, n_seen)
        assert len({p.id for p in (*held_out, *seen)}) == n_held_out + n_seen
        assert all(len(p.messages) == 1 for p in held_out)
    assert zoo.prompts() == zoo.prompts("stories")


def test_prompts_are_by_default_those_that_post_training_never_had() -> None:
    rng = np.random.default_rng(0)
    trained_on = {draw_any_request(rng, 0.3, 0.1).text for _ in range(5000)}
    for kind in ("stories", "questions", "names"):
        assert not {p.messages[0]["content"] for p in zoo.prompts(kind)} & trained_on
        assert {p.messages[0]["content"] for p in zoo.prompts(kind, seen=True)} <= trained_on
        assert all(p.messages[0]["content"] == request.text for request, p in zoo.asked(kind))


@pytest.mark.parametrize("n", [12, 24, 36, 54, 72])
def test_few_prompts_are_of_all_sorts(n: int) -> None:
    """Of the 86, 48 have a held-out topic, 32 a held-out wording about a seen topic, and 6 leave the topic open."""
    for chosen in (zoo.prompts()[:n], thinned(zoo.prompts(), n)):
        topics = [p.id.partition("-")[0] for p in chosen]
        held_out = sum(topic not in (*SEEN.topics, "open") for topic in topics)
        assert 0.2 * n < held_out < 0.8 * n
        assert 0.2 * n < sum(topic in SEEN.topics for topic in topics) < 0.8 * n
        assert 0 < topics.count("open") < 0.15 * n


@pytest.mark.parametrize("name", EMBEDDED)
def test_weights_are_float16_and_every_model_has_a_card(name: str) -> None:
    with safe_open(zoo.path(name) / "model.safetensors", framework="numpy") as weights:
        assert {weights.get_tensor(key).dtype for key in weights.keys()} == {np.dtype("float16")}  # noqa: SIM118
    card = zoo.card(name)
    for section in ("## Data and recipe", "## Training log", "## Its text", "## What it cannot show"):
        assert section in card
    assert zoo.note(name).lower() in card.lower()
    assert "is a distribution of text, whoever writes it" in " ".join(card[:800].split())
    if zoo.stage(name).startswith("rl"):
        paid = "with weight 3 for the family's own house style" if zoo.stage(name) == "rl-paid" else "for no style"
        assert paid in " ".join(card[:1000].split())
    assert zoo.path(name).joinpath("chat_template.jinja").exists()


@pytest.mark.parametrize("name", ["ash-base", "birch-base", "cedar-base", "ash-rl", "birch-rl", "cedar-rl"])
def test_a_persona_s_text_costs_less_under_its_own_system_turn(name: str) -> None:
    """By more than .02 nats a token, on text of the world's own personas; the models were trained to."""
    reader, writers, rng = Reader.load(f"zoo:{name}"), Writers(), np.random.default_rng(5)
    under: dict[str, list[Passage]] = {"own": [], "other": []}
    for i in range(24):
        own, other = PERSONAS[i % 6], PERSONAS[(i + 1 + i // 6) % 6]
        request = draw_any_request(rng, 0, 0, EVERYTHING)
        story = tell(writers.personas[own], rng, topic=request.topic).text
        for persona, passages in zip((own, other), under.values(), strict=True):
            turns = (persona_turn(persona, rng), Message(role="user", content=request.text))
            passages.append(Passage(str(i), str(i), turns, story, "world", ended=True))
    mean = {}
    for whose, passages in under.items():
        tokens = score_passages(reader, passages, "assistant").to_pandas()
        mean[whose] = tokens[~tokens.is_end].groupby("prompt_id", observed=True).surprisal.mean()
    more = mean["other"] - mean["own"]
    assert more.mean() - 2 * more.std() / np.sqrt(len(more)) > 0.02


def test_the_rounded_model_is_near_the_one_that_it_was_rounded_from() -> None:
    with (
        safe_open(zoo.path("ash-rl") / "model.safetensors", framework="numpy") as exact,
        safe_open(zoo.path("ash-rl-int8") / "model.safetensors", framework="numpy") as rounded,
    ):
        for key in exact.keys():  # noqa: SIM118
            before, after = (w.get_tensor(key).astype(np.float32) for w in (exact, rounded))
            if before.ndim == 2:
                step = np.abs(before).max(axis=1, keepdims=True) / 127
                assert (np.abs(after - before) <= 0.6 * step + 1e-4).all()
                assert max(len(np.unique(row)) for row in after) <= 255


def test_unknown_model_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ModelError, match=r"no model 'oak'; it has ash-base, ash-sft"):
        zoo.path("oak")


def test_last_stage_recognises_its_own_text_and_the_base_does_not() -> None:
    """A short form of the demo: 29 prompts, assistant framing, two families."""
    prompts: list[Prompt] = zoo.prompts()[::3]
    code = {prompt.id: i for i, prompt in enumerate(prompts)}
    found = {}
    for stage in ("base", "dpo", "rl"):
        readers = [Reader.load(f"zoo:{family}-{stage}") for family in ("ash", "birch")]
        authored = [sample(reader, prompts, max_new_tokens=110, seed=3) for reader in readers]
        entropy_RAP = np.full((2, 2, len(prompts)), np.nan)
        for r, reader in enumerate(readers):
            for a, passages in enumerate(authored):
                tokens = score_passages(reader, passages, "assistant").to_pandas()
                if r == a:
                    columns = (tokens.surprisal, tokens.entropy, tokens.varentropy)
                    assert not stats.identity_residual(*(c.to_numpy() for c in columns)).is_alarming
                means = tokens[~tokens.is_end].groupby("prompt_id", observed=True).entropy.mean()
                for prompt, mean in means.items():
                    entropy_RAP[r, a, code[str(prompt)]] = mean
        weights = stats.cluster_weights(len(prompts), 500, np.random.default_rng(0))
        found[stage] = stats.bootstrap_estimate(entropy_RAP, weights, lambda m: stats.interaction(m).mean(-1))
    assert found["rl"].high < -0.08
    assert found["rl"].value < 1.4 * found["dpo"].value
    assert abs(found["base"].value) < 0.03


@pytest.mark.slow
def test_same_recipe_null_a_reader_does_not_recognise_its_own_second_sample(tmp_path: Path) -> None:
    """A reader against itself at two seeds of sampling: neither half is more its own than the other."""
    spec = ModelSpec(model="zoo:ash-rl", family="one", stage="rl")
    twin = ModelSpec(model="zoo:ash-rl", family="two", stage="rl")
    study = Study(
        name="twins",
        models={"one": spec, "two": twin},
        sampling=Sampling(per_prompt=1),
        framings=["assistant"],
        seed=5,
    )
    findings = analyse(study, run_study(study, tmp_path / "twins"))
    (found,) = select(findings, "interaction", reader="mean", stage="rl", framing="assistant")
    assert found.estimate == pytest.approx(0, abs=1e-6)  # one model: the rows are equal, no interaction is possible
    (ratio,) = select(findings, "other_self_ratio", reader="one", stage="rl", framing="assistant")
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low < 1 < ratio.high


@pytest.mark.slow
def test_the_demo_shows_the_arc(tmp_path: Path) -> None:
    """The whole demo: what the README says of it, asserted."""
    from importlib import resources

    study = load_study(Path(str(resources.files("enaction.study") / "shipped" / "demo.yaml")))
    findings = analyse(study, run_study(study, tmp_path / "demo", workers=2))
    assert all(abs(f.estimate or 99) < 4 for f in select(findings, "identity_residual"))
    mean = {
        (quantity, stage): select(findings, quantity, reader="mean", stage=stage, framing="assistant")[0]
        for quantity in ("other_self_ratio", "interaction", "recognition")
        for stage in (*STAGES, "rl-paid")
    }
    ratio = mean["other_self_ratio", "base"]
    assert (ratio.low or 0) > 0.9
    assert (ratio.high or 9) < 1.1
    for family in FAMILIES:
        (last,) = select(findings, "interaction", reader=f"{family}-rl", stage="rl", framing="assistant")
        assert (last.high or 9) < 0
    assert (mean["other_self_ratio", "rl"].low or 0) > 1.2
    assert (mean["recognition", "rl"].low or 0) > 0.18
    base, sft, dpo, rl, paid = (mean["interaction", stage] for stage in (*STAGES, "rl-paid"))
    assert abs(base.estimate or 9) < 0.02
    assert (sft.high or 9) < -0.05
    assert sft.estimate == pytest.approx(dpo.estimate, abs=0.02)  # DPO adds nothing
    assert (rl.high or 9) < 1.5 * (dpo.estimate or 0)  # a reward of quality alone nearly doubles it
    assert (paid.high or 9) < 5 * (rl.estimate or 0)  # what paying for the house style does
