"""Injected thoughts: a reply under a prompt that it does not answer, and the concept of the right prompt put into it.

A model is shown its own reply to prompt B as if it had answered prompt A, and asked whose it is. Then the concept of B
is added to the states at A's positions, as if the model had had B in mind before the reply was put into its mouth. If a
report rests on what was intended, the disavowed reply becomes its own again, up to what it says of the reply under B
itself (the ceiling).

The concept is the mean state of B's words minus that of A's, where the two prompts differ in one word (a slot), or over
all words of the request where no such pairs exist. Doses are multiples of it. Beside it stand a third prompt's concept,
random vectors of the same length, an unrelated question, another reader; and how far the injection moves the prediction
of the reply itself, in nats, since a dose that breaks the model makes anything work.

Axes: `N` replies, `S` positions of a slot, `C` channels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from enaction.experiments.verbal.asking import Answers, Panel, ask, table_of, under
from enaction.framing import Framed, frame, frame_prompt
from enaction.passages import Passage, Prompt

if TYPE_CHECKING:
    from enaction.reader import Reader

DOSES = (0.5, 1.0, 2.0)
# Prompts that differ in more tokens than this are no pair that differs in a word.
_SLOT = 3

SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),  # that the reply answers
        ("shown", pa.string()),  # that it is shown under
        ("question", pa.string()),  # asked, unrelated
        ("treatment", pa.string()),  # clean, ceiling, concept, third, random
        ("layer", pa.int32()),  # of the residual stream; -1 where nothing is injected
        ("dose", pa.float32()),  # multiples of the concept
        ("draw", pa.int32()),
        ("log_odds", pa.float32()),  # nats
        ("moved", pa.float32()),  # mean size of the change of the reply's surprisal, nats a token; NaN if not measured
    ]
)


@dataclass(frozen=True)
class Case:
    """A reply under a prompt that it does not answer.

    Attributes:
        passage: the reply with its own prompt.
        shown: the prompt that it is shown under.
        third: another prompt.
        slot: positions of the shown prompt's ids where a concept is put.
        words: of its own prompt, of the shown one and of the third, what lies in the slot: names of concepts.
    """

    passage: Passage
    shown: Prompt
    third: Prompt
    slot: tuple[int, ...]
    words: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


class Concepts(NamedTuple):
    """Mean states by layer: name of a concept -> [S, C] in a slot, [1, C] of whole requests."""

    of: Mapping[tuple[int, ...], np.ndarray]


def cases(reader: Reader, passages: Sequence[Passage], prompts: Sequence[Prompt]) -> list[Case]:
    """Each reply under another prompt: one that differs from its own in a word, if most have two such; else any.

    None where there are fewer than three prompts: a third one is needed.
    """
    if len(prompts) < 3:
        return []
    ids = {prompt.id: frame_prompt(reader.tokenizer, prompt, "assistant").ids for prompt in prompts}
    by_length: dict[int, list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        by_length[len(ids[prompt.id])].append(prompt)
    in_slots: list[Case] = []
    for passage in passages:
        own = ids[passage.prompt_id]
        near: dict[tuple[int, ...], list[Prompt]] = defaultdict(list)
        for other in by_length[len(own)]:
            differ = tuple(i for i, (a, b) in enumerate(zip(own, ids[other.id], strict=True)) if a != b)
            if 0 < len(differ) <= _SLOT:
                near[differ].append(other)
        slot = max(near, key=lambda at: len({tuple(ids[p.id][i] for i in at) for p in near[at]}), default=())
        others = {tuple(ids[p.id][i] for i in slot): p for p in near[slot]} if slot else {}
        if len(others) >= 2:
            (shown_word, shown), (third_word, third) = _two(others, len(in_slots))
            words = (tuple(own[i] for i in slot), shown_word, third_word)
            in_slots.append(Case(passage, shown, third, slot, words))
    if 2 * len(in_slots) >= len(passages):
        return in_slots
    content = _content([*ids.values()])
    at = {prompt.id: i for i, prompt in enumerate(prompts)}
    made = []
    for passage in passages:
        i = at[passage.prompt_id]
        shown, third = prompts[(i + 1) % len(prompts)], prompts[(i + 2) % len(prompts)]
        words = tuple(ids[p] for p in (passage.prompt_id, shown.id, third.id))
        made.append(Case(passage, shown, third, tuple(content(ids[shown.id])), (words[0], words[1], words[2])))
    return made


def _two(others: Mapping[tuple[int, ...], Prompt], number: int) -> list[tuple[tuple[int, ...], Prompt]]:
    """Two of the other prompts, others for each reply."""
    listed = sorted(others.items(), key=lambda item: item[1].id)
    return [listed[number % len(listed)], listed[(number + 1) % len(listed)]]


def _content(ids: Sequence[tuple[int, ...]]) -> Callable[[tuple[int, ...]], range]:
    """Where prompts differ: between their common beginning and their common end, which the template has put there."""
    shortest = min(map(len, ids))
    before = next((i for i in range(shortest) if len({of[i] for of in ids}) > 1), shortest)
    after = next((i for i in range(shortest) if len({of[-1 - i] for of in ids}) > 1), shortest)
    return lambda of: range(before, max(before + 1, len(of) - after))


def concepts(reader: Reader, of: Sequence[Case], prompts: Sequence[Prompt], layer: int) -> Concepts:
    """The mean state of each concept at a residual layer, over all prompts that have it in a slot of these cases."""
    from enaction.reader.interventions import Capture, Spot, Treated

    ids = {prompt.id: frame_prompt(reader.tokenizer, prompt, "assistant").ids for prompt in prompts}
    # A prompt has no measured token; its last one stands for the placeholder that is not fed.
    framed = [Framed((*ids[p.id], ids[p.id][-1]), len(ids[p.id]), len(ids[p.id]) + 1, False) for p in prompts]
    capture = Capture(Spot(layer))
    states = dict(zip(ids, Treated(reader, framed).read((), [capture]).captured[capture], strict=True))
    found: dict[tuple[int, ...], list[np.ndarray]] = defaultdict(list)
    if all(len(word) == len(case.slot) for case in of for word in case.words):
        words = {word for case in of for word in case.words}
        for slot in {case.slot for case in of}:
            for name, context in ids.items():
                if max(slot) < len(context) and (word := tuple(context[i] for i in slot)) in words:
                    found[word].append(states[name][list(slot)])
    else:
        content = _content([*ids.values()])
        for name, context in ids.items():
            found[context].append(states[name][list(content(context))].mean(axis=0, keepdims=True))
    return Concepts({word: np.mean(several, axis=0) for word, several in found.items()})


def measure(
    reader: Reader,
    passages: Sequence[Passage],
    prompts: Sequence[Prompt],
    *,
    question: str,
    unrelated: str,
    words: Answers,
    rng: np.random.Generator,
    cut: int = 24,
    draws: int = 10,
    doses: Sequence[float] = DOSES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pa.Table:
    """A row for each reply and treatment; see `SCHEMA`. Layers are 0 to the last but one: above it nothing reads on.

    No rows where no reply has another prompt to be shown under.

    Args:
        reader: who is asked.
        passages: replies, the asked model's or another's.
        prompts: of the study.
        question, unrelated, words: what is asked, and the two answers.
        rng: of random vectors.
        cut: tokens of a reply that are shown.
        draws: random vectors at dose 1; at other doses there are a third as many.
        doses: multiples of the concept.
        progress: called with readings done and their total.
    """
    from enaction.reader.interventions import Treated, layers

    of = cases(reader, passages, prompts)
    if not of:
        return SCHEMA.empty_table()
    shown = [under(case.passage, case.shown.messages) for case in of]
    panels = {
        kind: Panel(reader, [ask(reader.tokenizer, p, asked, cut=cut) for p in shown], words)
        for kind, asked in (("asked", question), ("unrelated", unrelated))
    }
    spans = [a.reply for a in panels["asked"].asked]
    replies = Treated(
        reader,
        [
            Framed(frame(reader.tokenizer, p, "assistant").ids[:stop], start, stop, False)
            for p, (start, stop) in zip(shown, spans, strict=True)
        ],
    )
    plain = [s.surprisal for s in replies.read().scores]
    rows: list[tuple] = []

    def add(kind: str, treatment: str, layer: int, dose: float, draw: int, log_odds: np.ndarray, moved: np.ndarray):
        for case, one, far in zip(of, log_odds, moved, strict=True):
            rows.append((case.passage.prompt_id, case.shown.id, kind, treatment, layer, dose, draw, one, far))

    unmeasured = np.full(len(of), np.nan)
    for kind, panel in panels.items():
        add(kind, "clean", -1, 0.0, 0, panel.read()[0].log_odds, unmeasured * 0)
    own = Panel(reader, [ask(reader.tokenizer, case.passage, question, cut=cut) for case in of], words)
    add("asked", "ceiling", -1, 0.0, 0, own.read()[0].log_odds, unmeasured)
    planned = list(_planned(range(layers(reader)), doses, draws))
    by_layer = {layer: concepts(reader, of, prompts, layer) for layer in range(layers(reader))}
    for done, (layer, dose, treatment, draw) in enumerate(planned, start=1):
        edits = _edits(of, by_layer[layer], layer, dose, treatment, rng)
        moved = unmeasured
        if draw == 0:
            after = [s.surprisal for s in replies.read(edits).scores]
            moved = np.array([np.abs(a - b).mean() for a, b in zip(after, plain, strict=True)])
        add("asked", treatment, layer, dose, draw, panels["asked"].read(edits)[0].log_odds, moved)
        if treatment == "concept":
            add("unrelated", treatment, layer, dose, draw, panels["unrelated"].read(edits)[0].log_odds, unmeasured)
        progress(done, len(planned))
    return table_of(rows, SCHEMA)


def _planned(layers: Sequence[int], doses: Sequence[float], draws: int) -> Iterator[tuple[int, float, str, int]]:
    for layer in layers:
        for dose in doses:
            yield layer, dose, "concept", 0
            yield layer, dose, "third", 0
            for draw in range(draws if dose == 1 else max(1, draws // 3)):
                yield layer, dose, "random", draw


def _edits(
    of: Sequence[Case], known: Concepts, layer: int, dose: float, treatment: str, rng: np.random.Generator
) -> list:
    from enaction.reader.interventions import Edit, Spot

    values = []
    for case in of:
        own, shown, third = (known.of[word] for word in case.words)
        concept = own - shown
        if treatment == "third":
            concept = third - shown
        elif treatment == "random":
            drawn = rng.standard_normal(concept.shape)
            drawn *= np.linalg.norm(concept, axis=1, keepdims=True) / np.linalg.norm(drawn, axis=1, keepdims=True)
            concept = drawn
        values.append(np.broadcast_to(concept, (len(case.slot), concept.shape[1])))
    return [Edit(Spot(layer), [case.slot for case in of], values, strength=dose)]
