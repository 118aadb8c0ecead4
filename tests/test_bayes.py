"""The exact Bayes reader against enumeration of every text of a small world, and against the world's own texts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import tiny

from enaction import stats, zoo
from enaction.errors import PassageError
from enaction.lab import bayes
from enaction.lab.bayes import BayesReader
from enaction.lab.tokenizing import build_tokenizer
from enaction.reader import Reader
from enaction.world import chats
from enaction.world import stories as world
from enaction.world.chats import Writers
from enaction.world.lexicon import Topic

SHARES = (0.7, 0.3)  # of the small world's writers


class Coin:
    """A random number that is only ever compared with a probability."""

    def __init__(self, fork: Fork) -> None:
        self._fork = fork

    def __lt__(self, share: float) -> bool:
        return self._fork.take([share, 1 - share]) == 0


class Fork:
    """Replaces the writers, a voice and the generator at once: follows a script and keeps the probability."""

    def __init__(self, voices: Sequence[Any], script: Sequence[int]) -> None:
        self.voices, self.script = voices, list(script)
        self.taken: list[int] = []
        self.options: list[int] = []
        self.probability = 1.0
        self.voice = voices[0]

    def take(self, probabilities: Sequence[float]) -> int:
        """The next option that the script names, the first where it is at its end."""
        option = self.script[len(self.taken)] if len(self.taken) < len(self.script) else 0
        self.taken.append(option)
        self.options.append(len(probabilities))
        self.probability *= probabilities[option]
        return option

    def of_text(self, _: Any) -> Fork:
        self.voice = self.voices[self.take(SHARES)]
        return self

    def pick(self, name: str, _: Any) -> int:
        return self.take(self.voice.probabilities[name])

    def choice(self, options: Sequence[Any]) -> Any:
        return options[self.take([1 / len(options)] * len(options))]

    def random(self) -> Coin:
        return Coin(self)


def _every_document(voices: Sequence[Any]) -> Iterator[tuple[str, float]]:
    """Every way to tell a plain document, with its probability: the generator itself, run with every script."""
    script: list[int] = []
    while True:
        fork = Fork(voices, script)
        scope = chats.Scope(tuple(world.TOPICS), chats.OPEN_REQUESTS, chats.TOPIC_REQUESTS)
        text = chats.plain_document(fork, fork, scope)  # type: ignore[arg-type]
        yield text, fork.probability
        script = list(fork.taken)
        while script and script[-1] + 1 == fork.options[len(script) - 1]:
            script.pop()
        if not script:
            return
        script[-1] += 1


@pytest.fixture(name="voices")
def _voices(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A world so small that all of its texts can be enumerated, as ambiguous as possible; the voices of its writers.

    Two synonym slots share a word, an opener is also how a pattern begins, two arcs share a sentence, a request begins
    as a story does, and the content words differ in how many there are.
    """
    arcs = {"search": (("then {hero} [saw] it", "the {object} [hid]"), ("{hero} [saw] the {folk}",)),
            "gift": (("the {object} [hid]",), ("{hero} [hid] the {folk}",))}  # fmt: skip
    small = {
        "TOPICS": {"sea": Topic(("boat", "net"), ("reef",), ("elf",), ("wet",)),
                   "farm": Topic(("egg",), ("barn",), ("cook",), ("dry",))},
        "HEROES": ("adam", "bella"),
        "SYNONYMS": {"saw": ("saw", "spied"), "hid": ("hid", "spied")},
        "OPENERS": ("", "then"), "STOPS": (".",),
        "OPENINGS": ("the {place}", "{hero} at the {place}"), "DESCRIPTIONS": ("the {object}",),
        "CLOSINGS": ("{hero} [saw] it",),
        "ARCS": arcs, "BEATS": 2, "SENTENCES": 5,
    }  # fmt: skip
    for name, value in small.items():
        monkeypatch.setattr(world, name, value)
    for name, value in {"OPEN_REQUESTS": ("the tale!",), "TOPIC_REQUESTS": ("tell of the {topic}.",)}.items():
        monkeypatch.setattr(chats, name, value)
    monkeypatch.setattr(chats, "TOPICS", world.TOPICS)
    sizes = {"topic": 2, "arc": 2, "hero": 2, "opening": 2, "description": 1, "closing": 1, "opener": 2, "stop": 1}
    sizes |= {"[saw]": 2, "[hid]": 2, "search/0": 2, "search/1": 1, "gift/0": 1, "gift/1": 1}
    rng = np.random.default_rng(3)
    return [SimpleNamespace(probabilities={k: rng.dirichlet(np.ones(n)) for k, n in sizes.items()}) for _ in SHARES]


def test_the_exact_reader_equals_the_sum_over_every_text_of_a_small_world(voices: list[Any]) -> None:
    probability: dict[tuple[str, ...], float] = defaultdict(float)
    texts = {}
    for text, p in _every_document(voices):
        read = tuple(bayes.symbols(text))
        texts[read] = text
        for n in range(len(read) + 1):
            probability[read[:n]] += p
    assert probability[()] == pytest.approx(1, abs=1e-9)
    following: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for begun, p in probability.items():
        following[begun[:-1]].append(p)
    following[()].remove(probability[()])

    reader = BayesReader(
        list(zip(voices, SHARES, strict=True)),
        sloppy_share=chats.SLOPPY_SHARE,
        request_share=chats.REQUEST_SHARE,
    )
    chosen = np.random.default_rng(1).choice(len(texts), 100, replace=False)
    everything = list(texts)
    for read in (everything[i] for i in chosen):
        truth = reader.read(texts[read])
        assert truth.symbols == read
        for n in range(len(read)):
            p_V = np.array(following[read[:n]]) / probability[read[:n]]
            entropy = -(p_V @ np.log(p_V))
            assert truth.surprisal[n] == pytest.approx(
                -np.log(probability[read[: n + 1]] / probability[read[:n]]), abs=1e-9
            )
            assert truth.entropy[n] == pytest.approx(entropy, abs=1e-9)
            assert truth.varentropy[n] == pytest.approx(p_V @ (-np.log(p_V) - entropy) ** 2, abs=1e-9)


@pytest.mark.parametrize("kind", ["document", "turn"])
def test_on_the_worlds_own_text_surprisal_is_entropy_on_average(kind: str) -> None:
    writers, rng = Writers(), np.random.default_rng(11)
    reader = BayesReader.of_documents(writers) if kind == "document" else BayesReader.of_answers(writers)
    truths = []
    for _ in range(60):
        if kind == "document":
            truths.append(reader.read(chats.plain_document(writers, rng)))
        else:
            request = chats.draw_request(rng, chats.EVERYTHING)
            story = world.tell(writers.of_answer(rng), rng, topic=request.topic)
            truths.append(reader.read(story.text, request.topic))
    columns = [np.concatenate([getattr(t, name) for t in truths]) for name in ("surprisal", "entropy", "varentropy")]
    residual = stats.identity_residual(*columns)
    assert abs(residual.standardised) < 4
    assert residual.n_tokens > 3000


def test_it_knows_what_the_latents_leave_open() -> None:
    story = (
        "greta once met the gnome at the old pond. the gnome there was very kind and clever. "
        "the rose fell down and was broken. greta was very sad about the rose. greta fixed the rose slowly. "
        "the rose was pretty once more. in the end the gnome was happy too."
    )
    truth = BayesReader.of_answers(Writers()).read(story, "garden")
    met, pond = truth.symbols.index("met"), truth.symbols.index("pond")
    assert truth.entropy[met] == pytest.approx(0, abs=1e-12)  # "greta once" goes on in one way
    assert truth.entropy[pond] == pytest.approx(np.log(4))  # the places of the garden, uniform
    assert truth.surprisal[-1] == pytest.approx(0, abs=1e-12)  # after the closing comes the end
    heroes = [truth.surprisal[i] for i, symbol in enumerate(truth.symbols) if symbol == "greta"]
    assert heroes[0] > 2 > max(heroes[1:])  # named once, it stays


def test_text_that_is_not_of_the_world_is_refused_with_its_word() -> None:
    reader = BayesReader.of_documents(Writers())
    with pytest.raises(PassageError, match=re.escape("word 2, 'drove'")):
        reader.read("greta drove home.")
    with pytest.raises(PassageError, match="the end"):
        reader.read("greta once met the gnome at the old pond.")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in zoo.names() if zoo.stage(name) == "base"])
@pytest.mark.parametrize("kind", ["document", "turn"])
def test_no_base_model_beats_the_exact_reader(name: str, kind: Literal["document", "turn"]) -> None:
    gap = bayes.gap(Reader.load(f"zoo:{name}"), n=100, seed=2, kind=kind)
    assert 0 < gap.surprisal.low < gap.surprisal.value < 0.3
    assert 0.6 < gap.floor < 0.9


def test_the_gap_of_a_model_is_its_cross_entropy_minus_the_floor() -> None:
    tokenizer = build_tokenizer("word", 0, 0)
    size = len(tokenizer)
    flat = tiny.llama(size)
    flat.lm_head.weight.data.zero_()  # tied: every prediction is uniform
    gap = bayes.gap(Reader(flat, tokenizer), n=20, seed=4)
    writers, rng = Writers(), np.random.default_rng([4, 31])
    exact = BayesReader.of_documents(writers)
    truths = [exact.read(chats.plain_document(writers, rng)) for _ in range(20)]
    floor = np.concatenate([t.surprisal[1:] for t in truths])
    entropy = np.concatenate([t.entropy[1:] for t in truths])
    assert gap.n_symbols == len(floor)
    assert gap.floor == pytest.approx(floor.mean())
    # One token a symbol: whole words, marks, and the end.
    assert gap.surprisal.value == pytest.approx(np.log(size) - floor.mean(), abs=1e-5)
    assert gap.entropy.value == pytest.approx(np.log(size) - entropy.mean(), abs=1e-5)
