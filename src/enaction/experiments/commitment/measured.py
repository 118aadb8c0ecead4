"""What is measured of states: the last one before an answer, means over answers, and answers under another prompt's
keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from enaction.experiments.commitment.answers import Ids, answer_text, commonest, stem_length, turned
from enaction.experiments.commitment.cases import Case
from enaction.experiments.commitment.labels import NONE, LabelSpec
from enaction.experiments.pieces import by_prompt, decoded, first_of_each
from enaction.framing import Framed, FramedPrompt, frame, frame_prompt
from enaction.passages import Passage, Sampling
from enaction.study.desk import Desk
from enaction.study.planning import Measured

if TYPE_CHECKING:
    from enaction.reader.interventions import Edit, Spot

# Whose keys and values are put where: the donor's, at the user's words; the same in the upper half of the layers alone;
# at what the template has after the words; at both; and those of an unrelated prompt at the user's words.
MOVES = ("words", "upper", "frame", "all", "unrelated")


def _framed(desk: Desk, passages: Sequence[Passage]) -> list[Framed]:
    framing = desk.run.sampled_in(desk.reader.name)
    return [frame(desk.reader.tokenizer, p, framing, separator=desk.study.separator) for p in passages]


def _lists(vectors: Sequence[np.ndarray]) -> pa.Array:
    """A column of lists, with the name of their items that Parquet gives them."""
    return pa.array(vectors, type=pa.list_(pa.field("element", pa.float32())))


@dataclass(frozen=True, kw_only=True)
class States(Measured):
    """The residual stream at the last token before an answer: `prompt_id`, `layer` (0: embeddings) and `state`.

    Attributes:
        of: the text of samples, whose first of each prompt is framed.
    """

    of: str

    def measure(self, desk: Desk) -> pa.Table:
        """The table."""
        from enaction.reader.interventions import Capture, Spot, Treated, layers

        passages = list(first_of_each(desk.passages(self.of)).values())
        framed = _framed(desk, passages)
        where = [[f.start - 1 + stem_length(p)] for f, p in zip(framed, passages, strict=True)]
        captures = [Capture(Spot(layer), where) for layer in range(layers(desk.reader) + 1)]
        captured = Treated(desk.reader, framed).read(captures=captures, progress=desk.progress).captured
        return pa.table(
            {
                "prompt_id": [p.prompt_id for _ in captures for p in passages],
                "layer": np.repeat(np.arange(len(captures)), len(passages)),
                "state": _lists([state[0] for capture in captures for state in captured[capture]]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Vectors(Measured):
    """The mean over an answer's tokens of the residual stream after the last block: `text`, `id` and `vector`.

    Attributes:
        texts: of answers.
    """

    texts: tuple[str, ...]

    def measure(self, desk: Desk) -> pa.Table:
        """The table."""
        from enaction.reader.interventions import Capture, Spot, Treated, layers

        passages = [(text, p) for text in self.texts for p in desk.passages(text)]
        framed = _framed(desk, [p for _, p in passages])
        where = []
        for f, (_, p) in zip(framed, passages, strict=True):
            first = f.start + stem_length(p)
            # The last token is not fed; an answer of that token alone has the state before it.
            where.append(np.arange(first, max(first, f.stop - 1)) if f.stop - 1 > first else np.array([f.stop - 2]))
        capture = Capture(Spot(layers(desk.reader)), where)
        captured = Treated(desk.reader, framed).read(captures=[capture], progress=desk.progress).captured[capture]
        return pa.table(
            {
                "text": [text for text, _ in passages],
                "id": [p.id for _, p in passages],
                "vector": _lists([state.mean(0) for state in captured]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Moves(Measured):
    """Answers to a prompt with keys and values, in all layers, of another prompt of equal length in place of its own.

    A row an answer: `prompt_id`, `donor`, `arm` (see `MOVES`), the commonest labels of both, `own_label` and
    `donor_label`, and the `text`. Prompts of one length are dealt donors in turn whose label differs from their own; an
    unrelated prompt has a third label. All share the template's first tokens, and what it has after the words.

    Attributes:
        samples: the text of samples.
        cases: that they answer.
        label: whose plan is moved.
        sampling: `per_prompt` answers in each arm.
    """

    samples: str
    cases: tuple[Case, ...]
    label: LabelSpec
    sampling: Sampling

    def measure(self, desk: Desk) -> pa.Table:
        """The table."""
        rows: dict[str, list[Any]] = {
            name: [] for name in ("prompt_id", "donor", "arm", "own_label", "donor_label", "text")
        }
        for row in self._rows(desk):
            for name, value in zip(rows, row, strict=True):
                rows[name].append(value)
        return pa.table(rows, schema=pa.schema([(name, pa.string()) for name in rows]))

    def _rows(self, desk: Desk) -> list[tuple[str, ...]]:
        labels = self._labels(desk)
        framing = desk.run.sampled_in(desk.reader.name)
        tokenizer, separator = desk.reader.tokenizer, desk.study.separator
        framed = {
            case.prompt.id: frame_prompt(tokenizer, case.prompt, framing, separator=separator)
            for case in self.cases
            if case.prompt.id in labels
        }
        ids = {prompt_id: of.ids for prompt_id, of in framed.items()}
        if len(ids) < 2:
            return []
        head, tail = common_ends(list(ids.values()))
        states = _keys_and_values(desk, ids)
        rows = []
        for number, (prompt_id, own) in enumerate(ids.items()):
            partners = _partners(prompt_id, ids, labels)
            if len(partners) < 2:
                continue
            donor, unrelated = partners
            words = range(head, len(own) - tail)
            after = range(len(own) - tail, len(own))
            places = {
                "words": (donor, words),
                "upper": (donor, words),
                "frame": (donor, after),
                "all": (donor, range(head, len(own))),
                "unrelated": (unrelated, words),
            }
            for arm, (source, at) in places.items():
                edits = _overwriting(states[source], list(at), upper_half=arm == "upper")
                for text in self._answers(desk, framed[prompt_id], edits, len(MOVES) * number + MOVES.index(arm)):
                    rows.append((prompt_id, donor, arm, labels[prompt_id], labels[donor], text))
            desk.progress(number + 1, len(ids))
        return rows

    def _labels(self, desk: Desk) -> dict[str, str]:
        """The commonest label of each prompt that has one."""
        label = self.label.labeller()
        found = {}
        for prompt_id, passages in by_prompt(desk.passages(self.samples)).items():
            told = [of.value if (of := label(answer_text(p))) else NONE for p in passages]
            found[prompt_id] = commonest(told)[0]
        return {prompt_id: of for prompt_id, of in found.items() if of != NONE}

    def _answers(self, desk: Desk, framed: FramedPrompt, edits: Sequence[Edit], number: int) -> list[str]:
        """Texts sampled after a prompt under edits, without their end token."""
        from enaction.continuing import continued

        ends = {framed.end_id} if framed.end_id is not None else set()
        sampled = continued(
            desk.reader,
            framed.ids,
            self.sampling.per_prompt,
            self.sampling.max_new_tokens,
            edits=edits,
            stops=frozenset(desk.reader.stop_ids | ends),
            seed=1000 * desk.study.seed + number,
        )
        return [decoded(desk.reader.tokenizer, of.ids[:-1] if of.ended else of.ids) for of in sampled]


def common_ends(sequences: Sequence[Ids]) -> tuple[int, int]:
    """How many first and how many last items all sequences have in common, without overlap in the shortest."""
    shortest = min(map(len, sequences))

    def common(items: Sequence[Ids]) -> int:
        return next((i for i in range(shortest) if len({of[i] for of in items}) > 1), shortest)

    head = common(sequences)
    return head, min(common([of[::-1] for of in sequences]), shortest - head)


def _partners(prompt_id: str, ids: dict[str, Ids], labels: dict[str, str]) -> list[str]:
    """A donor of equal length and another label, and one with a third label."""
    others = [o for o in ids if len(ids[o]) == len(ids[prompt_id]) and labels[o] != labels[prompt_id]]
    for donor in turned(others, prompt_id):
        unrelated = [o for o in turned(others, prompt_id) if labels[o] != labels[donor]]
        if unrelated:
            return [donor, unrelated[0]]
    return []


def _keys_and_values(desk: Desk, ids: dict[str, Ids]) -> dict[str, dict[Spot, np.ndarray]]:
    """Prompt -> spot -> [T, C] keys and values of all layers at every position."""
    from enaction.reader.interventions import Capture, Spot, Treated, layers

    # The last token of what is read is not fed, so one is put after each prompt.
    framed = [Framed((*of, of[-1]), len(of), len(of) + 1, False, passage_id=prompt) for prompt, of in ids.items()]
    spots = [Spot(layer, part) for layer in range(1, layers(desk.reader) + 1) for part in ("key", "value")]
    captures = [Capture(spot) for spot in spots]
    captured = Treated(desk.reader, framed).read(captures=captures).captured
    return {prompt: {c.spot: captured[c][i] for c in captures} for i, prompt in enumerate(ids)}


def _overwriting(states: dict[Spot, np.ndarray], at: list[int], *, upper_half: bool) -> list[Edit]:
    """Edits that put keys and values in place of others at these positions, in all layers or in the upper half."""
    from enaction.reader.interventions import Edit

    above = max(spot.layer for spot in states) // 2 if upper_half else 0
    return [Edit(spot, [at], [state[at]], kind="set") for spot, state in states.items() if spot.layer > above]
