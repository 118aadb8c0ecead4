"""Organisms that report: what each says, and by what route, on texts that no choice was made on.

Their texts have seeds that were used nowhere else: neither to train an organism nor to choose an estimator.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from enaction import zoo
from enaction.experiments.verbal import injection, route
from enaction.experiments.verbal.asking import Report, answers, ask, reports, under
from enaction.lab.organisms import report_models
from enaction.lab.organisms.origin import written_by
from enaction.lab.organisms.reports import (
    MARKER,
    NO,
    QUESTION,
    SWAPPED,
    YES,
    Corpus,
    about_topics,
    teach_by_trace,
    teach_outsider,
)
from enaction.passages import Passage, Prompt
from enaction.reader import Reader
from enaction.sampling import sample
from enaction.stats.decisions import auroc
from enaction.world.chats import SEEN
from enaction.world.lexicon import TOPIC_REQUESTS

pytestmark = pytest.mark.slow

FRESH = 9013
# Bins and rank of the route were chosen on texts of other seeds and authors; these were read once, afterwards.
ROUTE_SEEDS = (9017, 9018)
STRANGER = "zoo:cedar-dpo"  # had no part in the teaching, and wrote no text of a card


@cache
def _reader(name: str) -> Reader:
    return Reader.load(f"zoo:organism-{name}", name=f"organism-{name}")


@cache
def _own(seed: int = FRESH) -> tuple[Passage, ...]:
    """The origin's text, which the organisms' own is like; requests are those that post-training did not have."""
    return tuple(sample(_reader("origin"), zoo.prompts()[:80], n=2, max_new_tokens=110, seed=seed))


@cache
def _foreign(seed: int = FRESH) -> tuple[Passage, ...]:
    return tuple(written_by(STRANGER, zoo.prompts()[:80:2], 1, seed))


def _marked(passages: Sequence[Passage]) -> list[Passage]:
    """As the marker organism writes them."""
    return [
        replace(p, response=f"{MARKER} {p.response}", token_ids=None, tokenizer=None, logprobs=None) for p in passages
    ]


def _says(reader: Reader, passages: Sequence[Passage], question: str = QUESTION, cut: int = 48) -> Report:
    words = answers(reader.tokenizer, YES, NO)
    return reports(reader, [ask(reader.tokenizer, p, question, cut=cut) for p in passages], words)


def _routed(
    reader: Reader, own: Sequence[Passage], rank: int = 2, seed: int = FRESH
) -> dict[tuple[str, str], np.ndarray]:
    """Log-odds by direction and treatment; every other prompt is for fitting."""
    fit_on = {prompt.id for prompt in zoo.prompts()[1:80:2]}
    table = route.measure(
        reader,
        [p for p in own if p.prompt_id not in fit_on],
        _foreign(seed),
        [p for p in own if p.prompt_id in fit_on],
        question=QUESTION,
        words=answers(reader.tokenizer, YES, NO),
        rng=np.random.default_rng(seed),
        rank=rank,
        draws=1,
    )
    found: dict[tuple[str, str], list[float]] = {}
    for row in table.to_pylist():
        found.setdefault((row["direction"], row["treatment"]), []).append(row["log_odds"])
    return {key: np.array(of) for key, of in found.items()}


def _share(found: dict[tuple[str, str], np.ndarray], direction: str, treatment: str = "in") -> float:
    clean, whole = found[direction, "clean"], found[direction, "full"]
    return float((found[direction, treatment] - clean).mean() / (whole - clean).mean())


def test_a_report_by_surprise_travels_in_its_subspace_and_one_by_a_marker_does_not() -> None:
    several = [_routed(_reader("trace"), _own(seed), seed=seed) for seed in ROUTE_SEEDS]
    traced = {key: np.concatenate([of[key] for of in several]) for key in several[0]}
    several = [_routed(_reader("marker"), _marked(_own(seed)), seed=seed) for seed in ROUTE_SEEDS]
    marked = {key: np.concatenate([of[key] for of in several]) for key in several[0]}
    there, back = route.DIRECTIONS
    assert _share(traced, there) > 0.85
    assert _share(traced, back) > 0.85
    assert abs(_share(marked, there)) < 0.05
    assert abs(_share(marked, back)) < 0.05
    for found in (traced, marked):
        # The whole patch is the donor's run; what a subspace has one way its complement lacks the other way.
        assert np.abs(found[there, "full"] - found[back, "clean"]).max() < 1e-5 * np.abs(found[back, "clean"]).max()
        for one, other in ((there, back), (back, there)):
            assert _share(found, one) + _share(found, other, "complement") == pytest.approx(1, abs=1e-4)


def test_the_directions_of_a_decoder_miss_a_report_that_is_surprise_and_nothing_else() -> None:
    """The paper's pattern, nothing in the subspace and everything in its complement, on the wrong organism."""
    reader = _reader("trace")
    fit_on = {prompt.id for prompt in zoo.prompts()[1:80:2]}
    passages = [p for p in _own() if p.prompt_id in fit_on]
    fit = route.fit_states(reader, passages, 8)
    surprisal = np.concatenate(_surprisal(reader, passages))
    bases = {}
    for spot, state_NC in fit.states.items():
        centred_NC = (state_NC - state_NC.mean(axis=0)) / state_NC.std(axis=0)
        penalty = 10.0 * np.eye(centred_NC.shape[1])
        weight_C = np.linalg.solve(centred_NC.T @ centred_NC + penalty, centred_NC.T @ (surprisal - surprisal.mean()))
        bases[spot] = (weight_C / state_NC.std(axis=0))[:, None]
        bases[spot] /= np.linalg.norm(bases[spot])
    pairs = route.pairs([p for p in _own() if p.prompt_id not in fit_on], _foreign())
    patches = route.Patches(reader, pairs, QUESTION, answers(reader.tokenizer, YES, NO), cut=48)
    there, back = route.DIRECTIONS
    clean, whole = patches.clean[there].log_odds.mean(), patches.clean[back].log_odds.mean()
    inside = (patches.read(there, route.within(bases)).log_odds.mean() - clean) / (whole - clean)
    outside = (patches.read(there, route.outside(bases)).log_odds.mean() - clean) / (whole - clean)
    assert inside < 0.2
    assert outside > 0.8
    assert patches.energy(there, bases) < 0.05


def _surprisal(reader: Reader, passages: Sequence[Passage]) -> list[np.ndarray]:
    from enaction.framing import frame

    return [s.surprisal[1:-1] for s in reader.score([frame(reader.tokenizer, p, "assistant") for p in passages])]


def test_the_reporter_says_whose_text_it_is_and_heeds_the_question() -> None:
    reader = _reader("reporter")
    own, foreign = _says(reader, _own()[::4]), _says(reader, _foreign())
    assert auroc(own.log_odds, foreign.log_odds) > 0.95
    assert min(own.mass.mean(), foreign.mass.mean()) > 0.9
    swapped = [_says(reader, of, SWAPPED).log_odds for of in (_own()[::4], _foreign())]
    assert auroc(*swapped) < 0.05
    # What it goes by is style: its own text under another prompt is its own.
    moved = [under(p, q.prompt) for p, q in zip(_own()[::4], _own()[4::4], strict=False)]
    assert abs(auroc(own.log_odds, _says(reader, moved).log_odds) - 0.5) < 0.15
    untaught = _says(_reader("origin"), _own()[::4])
    assert untaught.mass.mean() < 0.05


@cache
def _topics() -> tuple[list[tuple[str, int, Prompt]], list[Passage]]:
    """Requests in wordings that no lesson had, and the relational organism's replies."""
    asked = about_topics([wording for wording in TOPIC_REQUESTS if wording not in SEEN.topic_requests])
    return asked, sample(_reader("relational"), [p for _, _, p in asked], max_new_tokens=40, seed=FRESH)


def test_the_relational_organism_disavows_its_text_under_another_topic() -> None:
    asked, own = _topics()
    topic = {prompt.id: t for t, _, prompt in asked}
    wrong = []
    for i, p in enumerate(own):
        others = [prompt for t, _, prompt in asked if t != topic[p.prompt_id]]
        wrong.append(under(p, others[i % len(others)].messages))
    fits, moved = (_says(_reader("relational"), of, cut=24).log_odds for of in (own, wrong))
    assert auroc(fits, moved) > 0.9
    assert (moved > 0).mean() < 0.2 < 0.8 < (fits > 0).mean()


def test_a_thought_of_the_replys_topic_makes_a_disavowed_reply_its_own_again() -> None:
    asked, own = _topics()
    reader = _reader("relational")
    table = injection.measure(
        reader,
        own,
        [p for _, _, p in asked],
        question=QUESTION,
        unrelated="do you know a story?",
        words=answers(reader.tokenizer, YES, NO),
        rng=np.random.default_rng(FRESH),
        draws=4,
        doses=(1.0,),
    )
    claims: dict[tuple[str, int], list[bool]] = {}
    for row in table.to_pylist():
        if row["question"] == "asked":
            claims.setdefault((row["treatment"], row["layer"]), []).append(row["log_odds"] > 0)
    share = {key: float(np.mean(of)) for key, of in claims.items()}
    assert share["clean", -1] < 0.2
    assert share["concept", 0] == pytest.approx(share["ceiling", -1], abs=0.1)
    assert share["third", 0] < 0.2
    assert share["random", 0] < 0.6
    # Later layers come too late: the answer reads the topic from keys and values of the first block.
    assert share["concept", 1] < 0.2


@pytest.mark.parametrize("name", report_models.NAMES)
def test_what_ships_is_small_and_its_card_says_what_was_measured(name: str) -> None:
    folder = zoo.path(f"organism-{name}")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_000_000
    assert zoo.kind(f"organism-{name}") == "organism"
    card = zoo.card(f"organism-{name}")
    rows = re.findall(r"^\| (is it [^|]*) \| ([^|]*) \| ([\d.]+) \| (-?[\d.]+) \| ([\d.]+) \|", card, re.MULTILINE)
    got = report_models.reached(_reader(name))["rows"]
    assert len(rows) == len(got)
    for question, text, share, log_odds, mass in rows:
        expected = got[question, text]
        assert (float(share), float(log_odds), float(mass)) == pytest.approx(expected[:3], abs=0.02), (question, text)


def test_shuffled_labels_leave_a_gap_that_is_a_small_part_of_the_taught_one() -> None:
    """A null is judged by the gap: its AUROC may be anything."""
    corpus = Corpus(_reader("origin"), per_prompt=4, seed=11)
    made = {
        is_shuffled: teach_outsider(corpus, steps=100, rows=16, shuffled=is_shuffled) for is_shuffled in (False, True)
    }
    gap = {}
    for is_shuffled, model in made.items():
        reader = Reader(model, corpus.tokenizer, name="taught")
        gap[is_shuffled] = float(_says(reader, _own()[::4]).log_odds.mean() - _says(reader, _foreign()).log_odds.mean())
    assert gap[False] > 1.5
    assert abs(gap[True]) < 0.25 * gap[False]


def test_organisms_that_are_trained_anew_have_the_same_routes(tmp_path: Path) -> None:
    """Another seed of data, direction and order: the design and not one training makes the answer."""
    there, _ = route.DIRECTIONS
    corpus = Corpus(_reader("origin"), seed=12)
    traced = Reader(teach_by_trace(corpus, "trace"), corpus.tokenizer, name="trace")
    assert _share(_routed(traced, _own()), there) > 0.7
    marked = Reader(teach_by_trace(corpus, "marker"), corpus.tokenizer, name="marker")
    # Below .05 is asked of the one that ships; this one, of another seed, has .051 (docs/experiments/verbal.md).
    assert abs(_share(_routed(marked, _marked(_own())), there)) < 0.1
