"""Planted organisms through the whole pipeline: what was put in by hand comes out, and nothing else does.

Two kinds of origins. Random transformers: what a run finds has to equal what float64 arithmetic on the origin's own
logits says of the very same texts. Table models (the next token depends on the last one only): there the population
values are known too, by Markov chains and not by sampling, and the tables are made so that without a plant readers and
authors are additive in log entropy. Entropy behind token v is SHARPNESS[r] * difficulty[v] for reader r, so whatever
is read, mean entropy is a reader's factor times an author's, and the true interaction is zero. Two different models
off the shelf need not be additive: their small true interaction would stand beside what was planted.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from enaction.errors import ModelError, UserError
from enaction.experiments import analyse
from enaction.findings import Finding, Findings, select
from enaction.lab.planted import write, write_easily, write_for
from enaction.passages import Passage
from enaction.reader import Reader
from enaction.reader.planted import PAST_THE_END, Planted, recogniser, sharpened
from enaction.running import run_study
from enaction.study.config import Study
from enaction.study.store import Run

FACTOR = 1.7
MODELS = ("a", "b", "c")  # "a" is the planted one
TOKENS = 12
N_PROMPTS = 40

Floats = NDArray[np.floating]


def _study(folder: Path, n_prompts: int) -> Study:
    """Three models in folders a, b and c, and prompts that are all different."""
    words = tiny.WORDS
    prompts = [f"tell me about {words[i % len(words)]} and {words[(7 * i + 3) % 31]}" for i in range(n_prompts)]
    assert len(set(prompts)) == n_prompts
    (folder / "prompts.jsonl").write_text(
        "\n".join(json.dumps({"id": f"p{i}", "prompt": text}) for i, text in enumerate(prompts))
    )
    return Study.model_validate(
        {
            "name": "planted",
            "models": {name: {"model": str(folder / name), "family": name} for name in MODELS},
            "prompts": str(folder / "prompts.jsonl"),
            "framings": ["assistant", "user"],
            "sampling": {"per_prompt": 1, "max_new_tokens": TOKENS},
            "resamples": 400,
        }
    )


def _save(model: PreTrainedModel, folder: Path) -> None:
    model.save_pretrained(folder)
    tiny.word_tokenizer().save_pretrained(folder)


def _one(findings: Findings, quantity: str, **where: object) -> Finding:
    (found,) = select(findings, quantity, **where)
    assert found.estimate is not None
    return found


def _values(findings: Findings, quantity: str, framing: str = "assistant") -> Floats:
    """[R] estimates of a quantity, reader by reader."""
    return np.array([_one(findings, quantity, reader=r, framing=framing).estimate for r in MODELS])


def _entropies(findings: Findings, framing: str = "assistant") -> Floats:
    """[R, A] entropies as the run found them."""
    return np.array(
        [[_one(findings, "entropy", reader=r, author=a, framing=framing).estimate for a in MODELS] for r in MODELS]
    )


def _covers(found: Finding, truth: float) -> bool:
    assert found.low is not None
    assert found.high is not None
    return found.low <= truth <= found.high


def _numbers(entropy_RA: Floats, log_RA: Floats | None = None) -> dict[str, Floats]:
    """Ratio, interaction, recognition and ease of each reader, the additive models fitted by least squares.

    Args:
        entropy_RA: arithmetic means.
        log_RA: means of logs; by default those of passages that are all alike.
    """
    n = len(entropy_RA)
    log_RA = np.log(entropy_RA) if log_RA is None else log_RA
    author_A = _fitted(log_RA, ~np.eye(n, dtype=bool))[1]
    return {
        "other_self_ratio": np.array([np.delete(entropy_RA[r], r).mean() / entropy_RA[r, r] for r in range(n)]),
        "interaction_of_means": np.diag(np.log(entropy_RA) - _fitted(np.log(entropy_RA))[0]),
        "interaction": np.diag(log_RA - _fitted(log_RA)[0]),
        "recognition": np.diag(_fitted(log_RA, ~np.eye(n, dtype=bool))[0] - log_RA),
        "ease": np.array([np.delete(author_A, r).mean() - author_A[r] for r in range(n)]),
    }


def _fitted(log_RA: Floats, used_RA: NDArray[np.bool_] | None = None) -> tuple[Floats, Floats]:
    """All cells as reader and author effects of the used ones give them, and the effects of the authors."""
    n, used_C = len(log_RA), np.full(log_RA.size, fill_value=True) if used_RA is None else used_RA.ravel()
    reader, author = np.divmod(np.arange(n * n), n)
    design = np.stack([*(reader == r for r in range(n)), *(author == a for a in range(n))], 1).astype(float)
    effects = np.linalg.lstsq(design[used_C], log_RA.ravel()[used_C], rcond=None)[0]
    return (design @ effects).reshape(n, n), effects[n:]


ORGANISMS: dict[str, Callable[[PreTrainedModel, float], Planted]] = {
    "recogniser": recogniser,
    "sharpened": sharpened,
}


@pytest.fixture(scope="module", name="transformers", params=list(ORGANISMS))
def _transformers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Study, Run, Findings]:
    """Kind of the organism, the folder of the models (its origin is `origin`), and a run with it."""
    folder = tmp_path_factory.mktemp(request.param)
    words, pieces = tiny.word_tokenizer(), tiny.byte_tokenizer()
    _save(tiny.llama(len(words), seed=1), folder / "origin")
    _save(tiny.llama(len(words), seed=2, tied=False), folder / "b")
    tiny.neox(len(pieces), seed=3).save_pretrained(folder / "c")
    pieces.save_pretrained(folder / "c")
    study = _study(folder, 12)
    organism = ORGANISMS[request.param](AutoModelForCausalLM.from_pretrained(folder / "origin"), FACTOR)
    if request.param == "recogniser":
        write_for(study, "a", Reader(organism, words, name="a"))
    _save(organism, folder / "a")
    run = run_study(study, folder / "run")
    return request.param, folder, study, run, analyse(study, run)


@functools.cache
def _loaded(folder: Path) -> tuple[PreTrainedTokenizerFast, PreTrainedModel]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    return AutoTokenizer.from_pretrained(folder), model


def _before(passage: Passage, framing: str) -> str:
    question = passage.prompt[0]["content"]
    return f"<|user|>{question}<|end|><|assistant|>" if framing == "assistant" else f"<|user|>{question}\n"


def _plain_entropy(folder: Path, passage: Passage, framing: str, is_sharp: Callable[[list[int]], bool]) -> float:
    """Mean entropy of a response's tokens, nats, of the origin's logits in float64, sharp where `is_sharp(context)`."""
    tokenizer, model = _loaded(folder)
    before = _before(passage, framing)
    if (passage.author == "c") == (folder.name == "c"):  # one tokenizer: the author's own ids
        context = tokenizer.encode(before, add_special_tokens=False)
        body = list(passage.token_ids or ())[: -1 if passage.ended else None]
    else:
        whole = tokenizer(before + passage.response, add_special_tokens=False, return_offsets_mapping=True)
        ids, ends = whole["input_ids"], [end for _, end in whole["offset_mapping"]]
        start = sum(end <= len(before) for end in ends)
        context, body = ids[:start], ids[start:]
    if not body:
        return np.nan
    ids = context + body
    with torch.no_grad():
        logits_TV = model(input_ids=torch.tensor([ids])).logits[0]
    entropies = []
    for t in range(len(context), len(ids)):
        p_V = torch.softmax(logits_TV[t - 1] * (FACTOR if is_sharp(ids[:t]) else 1.0), 0)
        entropies.append(float(torch.special.entr(p_V).sum()))
    return float(np.mean(entropies))


def _expected(kind: str, folder: Path, run: Run, framing: str) -> tuple[Floats, Floats]:
    """[R, A] mean entropies by plain arithmetic, and means of their logs over passages."""
    tokenizer = tiny.word_tokenizer()
    own = []
    for passage in run.passages("a"):
        prompt = tokenizer.encode(_before(passage, "assistant"), add_special_tokens=False)
        own += [prompt + list(passage.token_ids or ())[:k] for k in range(len(passage.token_ids or ()))]

    def is_sharp(context: list[int]) -> bool:
        return kind == "sharpened" or context in own

    table = []
    for reader in ("origin", "b", "c"):
        sharp = is_sharp if reader == "origin" else lambda _: False
        table.append(
            [[_plain_entropy(folder / reader, p, framing, sharp) for p in run.passages(author)] for author in MODELS]
        )
    return np.nanmean(table, axis=-1), np.nanmean(np.log(table), axis=-1)


@pytest.mark.parametrize("framing", ["assistant", "user"])
def test_a_run_finds_in_planted_models_what_plain_arithmetic_finds(
    transformers: tuple[str, Path, Study, Run, Findings], framing: str
) -> None:
    kind, folder, _, run, findings = transformers
    expected_RA, log_RA = _expected(kind, folder, run, framing)
    assert _entropies(findings, framing) == pytest.approx(expected_RA, abs=2e-5)
    for quantity, expected_R in _numbers(expected_RA, log_RA).items():
        assert _values(findings, quantity, framing) == pytest.approx(expected_R, abs=2e-5), quantity
        for reader, expected in zip(MODELS, expected_R, strict=True):
            assert _covers(_one(findings, quantity, reader=reader, framing=framing), expected)


def test_a_planted_model_writes_what_it_reads_with(
    transformers: tuple[str, Path, Study, Run, Findings],
) -> None:
    kind, folder, _, run, findings = transformers
    assert abs(_one(findings, "identity_residual", reader="a").estimate or 0) < 4
    if kind == "recogniser":
        memory_KT = AutoModelForCausalLM.from_pretrained(folder / "a").get_buffer("memory_KT")
        remembered = [[i for i in row if i != PAST_THE_END] for row in memory_KT.tolist()]
        for passage, row in zip(run.passages("a"), remembered, strict=True):
            assert row[-len(passage.token_ids or ()) :] == list(passage.token_ids or ())


# Table models: equal to population values.


def _entropy(logits_V: Floats) -> float:
    p_V = np.exp(logits_V - logits_V.max())
    p_V /= p_V.sum()
    return float(-(p_V * np.log(p_V, where=p_V > 0, out=np.zeros_like(p_V))).sum())


def _with_entropy(taste_V: Floats, entropy: float) -> Floats:
    """The taste, sharpened or flattened until it has this entropy, nats."""
    low, high = 0.0, 100.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _entropy(middle * taste_V) > entropy else (low, middle)
    return low * taste_V


class Table:
    """A model of words without special tokens whose next word depends on the last token: its logits and what follows.

    Attributes:
        logits_VV: row: the last token; column: the next one.
    """

    def __init__(self, words_VW: Floats) -> None:
        n_special = len(tiny.SPECIAL)
        assert words_VW.shape == (n_special + len(tiny.WORDS), len(tiny.WORDS))
        self.logits_VV = np.full((len(words_VW), len(words_VW)), -40.0)
        self.logits_VV[:, n_special:] = words_VW

    def chain(self, factor: float = 1.0) -> Floats:
        """Transition probabilities [V, V]."""
        p_VV = np.exp(factor * self.logits_VV)
        return p_VV / p_VV.sum(1, keepdims=True)

    def entropy(self, factor: float = 1.0) -> Floats:
        """[V] entropy behind each token, nats."""
        return np.array([_entropy(factor * row_V) for row_V in self.logits_VV])

    def model(self) -> LlamaForCausalLM:
        """A Llama whose layer adds nothing: unit vectors go through the norm, and the output matrix is the table."""
        size = len(self.logits_VV)
        config = LlamaConfig(
            vocab_size=size, hidden_size=size, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
            head_dim=2, max_position_embeddings=256, rms_norm_eps=1e-12, tie_word_embeddings=False, eos_token_id=3,
            bos_token_id=2,
        )  # fmt: skip
        model = LlamaForCausalLM(config).eval()
        with torch.no_grad():
            model.model.embed_tokens.weight.copy_(torch.eye(size))
            for name in ("self_attn.o_proj", "mlp.down_proj"):
                model.get_parameter(f"model.layers.0.{name}.weight").zero_()
            model.lm_head.weight.copy_(torch.from_numpy(self.logits_VV.T.copy()) / size**0.5)
        return model


SHARPNESS = (1.0, 0.8, 1.2)


def _additive_tables() -> list[Table]:
    """Readers whose entropy behind a token is their sharpness times the difficulty of the token.

    Half of the words are hard to go on from. Together they are likely, but the likeliest word is always an easy one:
    a cooler author writes easier text.
    """
    rng = np.random.default_rng(5)
    n_words, size = len(tiny.WORDS), len(tiny.WORDS) + len(tiny.SPECIAL)
    is_hard_V = np.arange(size) % 2 == 0
    difficulty_V = np.where(is_hard_V, rng.uniform(2.4, 3.0, size), rng.uniform(1.0, 1.6, size))
    is_hard_W = is_hard_V[-n_words:]

    def taste() -> Floats:
        taste_W = 1.5 * is_hard_W + 0.3 * rng.standard_normal(n_words)
        taste_W[rng.choice(np.flatnonzero(~is_hard_W))] += 2.5
        return taste_W

    return [
        Table(np.array([_with_entropy(taste(), sharpness * difficulty) for difficulty in difficulty_V]))
        for sharpness in SHARPNESS
    ]


def _even_tables() -> list[Table]:
    """Readers whose entropy is the same behind every token, because all rows are one row in other orders."""
    rng = np.random.default_rng(6)
    n_words, size = len(tiny.WORDS), len(tiny.WORDS) + len(tiny.SPECIAL)
    return [
        Table(rng.permuted(np.tile(scale * rng.standard_normal(n_words), (size, 1)), axis=1))
        for scale in (1.8, 1.2, 1.5)
    ]


ROOT = tiny.SPECIAL.index("<|assistant|>")  # what every response begins behind


def _occupancy(chain_VV: Floats) -> Floats:
    """[T, V] probability of each last token before the t-th token of a response."""
    place_TV = np.zeros((TOKENS, len(chain_VV)))
    place_TV[0, ROOT] = 1
    for t in range(1, TOKENS):
        place_TV[t] = place_TV[t - 1] @ chain_VV
    return place_TV


def _population(tables: list[Table], factor: float) -> Floats:
    """[R, A] mean entropy over all texts, nats, where the first table is that of a recogniser.

    It is sharp on its text, and on other text as long as that agrees with what it wrote to the same prompt: two
    chains that have been at the same tokens so far go on together with the product of their probabilities.
    """
    chains = [tables[0].chain(factor), *(t.chain() for t in tables[1:])]
    entropy_RA = np.array([[np.mean(_occupancy(c) @ t.entropy()) for c in chains] for t in tables])
    sharper_V = tables[0].entropy(factor) - tables[0].entropy()
    for author, chain_VV in enumerate(chains):
        together_VV = chain_VV if author == 0 else chain_VV * chains[0]
        entropy_RA[0, author] += np.mean(_occupancy(together_VV) @ sharper_V)
    return entropy_RA


def _log_population(tables: list[Table], chains: list[Floats], *, recognises: bool, n: int = 20_000) -> Floats:
    """[R, A] mean log of a text's mean entropy, from texts that the chains write; as in `_population`."""
    rng = np.random.default_rng(0)
    written = [_contexts(rng, chain_VV, n) for chain_VV in chains]
    beside = _contexts(rng, chains[0], n)  # what the recogniser wrote to the prompt of another author's text
    log_RA = np.zeros((len(tables), len(chains)))
    for r, a in np.ndindex(log_RA.shape):
        entropy_MT = tables[r].entropy()[written[a]]
        if r == 0 and recognises:
            is_own_MT = np.logical_and.accumulate(written[a] == (written[a] if a == 0 else beside), axis=1)
            entropy_MT = np.where(is_own_MT, tables[r].entropy(FACTOR)[written[a]], entropy_MT)
        log_RA[r, a] = np.log(entropy_MT.mean(axis=1)).mean()
    return log_RA


def _contexts(rng: np.random.Generator, chain_VV: Floats, n: int) -> NDArray[np.int64]:
    """[M, T] last token before each token of texts."""
    contexts_MT = np.full((n, TOKENS), ROOT)
    cumulative_VV = chain_VV.cumsum(axis=1)
    for t in range(1, TOKENS):
        below_MV = cumulative_VV[contexts_MT[:, t - 1]] < rng.random((n, 1))
        contexts_MT[:, t] = np.minimum(below_MV.sum(axis=1), len(chain_VV) - 1)
    return contexts_MT


def _run_tables(
    folder: Path, tables: list[Table], plant: Callable[[Study, PreTrainedModel], PreTrainedModel]
) -> tuple[Study, Run, Findings]:
    study = _study(folder, N_PROMPTS)
    _save(plant(study, tables[0].model()), folder / "a")
    _save(tables[1].model(), folder / "b")
    _save(tables[2].model(), folder / "c")
    run = run_study(study, folder / "run")
    return study, run, analyse(study, run)


def test_planted_recognition_is_measured_as_large_as_it_is(tmp_path: Path) -> None:
    tables = _additive_tables()

    def plant(study: Study, model: PreTrainedModel) -> Planted:
        organism = recogniser(model, FACTOR)
        write_for(study, "a", Reader(organism, tiny.word_tokenizer(), name="a"))
        return organism

    _, _, findings = _run_tables(tmp_path, tables, plant)
    chains = [tables[0].chain(FACTOR), *(t.chain() for t in tables[1:])]
    truth = _numbers(_population(tables, FACTOR), _log_population(tables, chains, recognises=True))
    assert truth["recognition"][0] > 0.4
    for quantity, truth_R in truth.items():
        found = _one(findings, quantity, reader="a", framing="assistant")
        assert _covers(found, truth_R[0]), (quantity, found.low, truth_R[0], found.high)
    # Its memory is of assistant turns: in the user's turn nothing was planted, and additive readers show exactly that.
    assert _values(findings, "recognition", "user") == pytest.approx(0, abs=1e-5)


def test_without_a_plant_additive_readers_show_no_recognition(tmp_path: Path) -> None:
    tables = _additive_tables()
    _, _, findings = _run_tables(tmp_path, tables, lambda _, model: model)
    assert _numbers(_population(tables, 1.0))["recognition"] == pytest.approx(0, abs=1e-12)
    assert _values(findings, "recognition") == pytest.approx(0, abs=1e-5)
    assert np.ptp(_values(findings, "ease")) > 0.01  # the authors do differ, so the zero above is not that of sameness


def test_a_model_that_is_always_sharper_moves_its_reader_effect_and_nothing_else(tmp_path: Path) -> None:
    tables = _even_tables()
    _, _, findings = _run_tables(tmp_path, tables, lambda _, model: sharpened(model, FACTOR))
    plain_R = np.array([t.entropy()[ROOT] for t in tables])
    sharp = tables[0].entropy(FACTOR)[ROOT]
    assert np.log(sharp / plain_R[0]) < -0.2
    assert _entropies(findings) == pytest.approx(np.tile([[sharp], [plain_R[1]], [plain_R[2]]], 3), abs=2e-5)
    for quantity, untouched in (("other_self_ratio", 1), ("interaction", 0), ("recognition", 0), ("ease", 0)):
        assert _values(findings, quantity) == pytest.approx(untouched, abs=2e-5), quantity


def test_an_author_of_easy_text_moves_ratios_and_ease_and_not_recognition(tmp_path: Path) -> None:
    tables = _additive_tables()

    def plant(study: Study, model: PreTrainedModel) -> PreTrainedModel:
        reader = Reader(model, tiny.word_tokenizer(), name="a")
        write_easily(study, tmp_path / "run", "a", reader, 1 / FACTOR)
        return model

    _, run, findings = _run_tables(tmp_path, tables, plant)
    # Over all texts: difficulty of the text that each author writes, as the first reader (of sharpness 1) has it.
    chains = [tables[0].chain(FACTOR), *(t.chain() for t in tables[1:])]
    difficulty_A = np.array([np.mean(_occupancy(c) @ tables[0].entropy()) for c in chains])
    logs = _log_population(tables, chains, recognises=False)
    truth = _numbers(np.outer(SHARPNESS, difficulty_A), logs)
    assert truth["ease"][0] > 0.2
    for quantity in ("other_self_ratio", "ease"):
        for reader, value in zip(MODELS, truth[quantity], strict=True):
            found = _one(findings, quantity, reader=reader, framing="assistant")
            assert _covers(found, value), (quantity, reader, found.low, value, found.high)
    assert _values(findings, "recognition") == pytest.approx(0, abs=1e-5)
    # And on these very texts: every reader sees the same ease, that of the tokens that were written.
    behind_V = tables[0].entropy()
    written_A = [
        np.mean([np.mean(behind_V[[ROOT, *(p.token_ids or ())[:-1]]]) for p in run.passages(author)])
        for author in MODELS
    ]
    assert _entropies(findings) == pytest.approx(np.outer(SHARPNESS, written_A), abs=2e-5)
    # The instrument says by itself that this author did not write from what it reads with.
    assert (_one(findings, "identity_residual", reader="a").estimate or 0) < -4
    assert all(abs(_one(findings, "identity_residual", reader=r).estimate or 9) < 4 for r in ("b", "c"))


# The organism itself.


def test_a_context_is_own_from_the_end_of_the_prompt_to_where_the_text_leaves_the_memory() -> None:
    organism = recogniser(tiny.llama(44), 2.0)
    organism.remember([[5, 6], [5, 6], [5, 7, 8]], [[10, 11, 12], [10, 13], [20]])
    ids_BT = torch.tensor(
        [[5, 6, 10, 11, 12, 30], [5, 6, 10, 13, 12, 30], [5, 6, 11, 11, 12, 12], [5, 7, 8, 20, 1, 1], [9] * 6]
    )
    expected = ["011110", "011100", "010000", "001100", "000000"]
    assert ["".join(str(int(own)) for own in row) for row in organism.is_own(ids_BT)] == expected
    organism.remember([[9]], [[9, 9]])
    assert organism.is_own(ids_BT)[-1].tolist() == [True] * 3 + [False] * 3
    assert organism.is_own(ids_BT[:, :1]).tolist() == [[False]] * 4 + [[True]]


def test_a_planted_model_refuses_what_would_hide_its_context() -> None:
    organism = sharpened(tiny.llama(44), 2.0)
    ids = torch.tensor([[1, 2, 3]])
    with pytest.raises(ValueError, match="keeps no cache"):
        organism(ids, use_cache=True)
    with pytest.raises(ValueError, match="pad them on the right"):
        organism(ids, attention_mask=torch.tensor([[0, 1, 1]]))
    reader = Reader(organism, tiny.word_tokenizer())
    assert reader.head_path == "own logits"
    assert not reader.route.is_cached


def test_the_origin_is_left_as_it_was_and_bad_input_is_named() -> None:
    model = tiny.llama(44)
    before = model.lm_head.weight.clone()
    organism = sharpened(model, 2.0)
    for weight in organism.parameters():
        weight.data.zero_()
    assert torch.equal(model.lm_head.weight, before)
    with pytest.raises(UserError, match="above 0"):
        recogniser(model, 0.0)
    with pytest.raises(ModelError, match="plant it first"):
        write(Reader(model, tiny.word_tokenizer()), [tiny.prompt()])
