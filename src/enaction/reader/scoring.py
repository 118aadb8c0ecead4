"""Reading passages in batches: which are read together, and the statistics of each batch.

Logits at index t-1 predict `ids[t]`: the hidden states gathered for a span `[start, stop)` are those at `start-1` to
`stop-2`, and the last token is not fed at all. Only these positions go through the output head, a bounded slice at a
time.

Batches are sorted by length, longest first, and padded on the right: under a causal mask no measured position can see
what follows it, so a score does not depend on what shared its batch. The attention mask is passed nevertheless.

Axes: `B` batch, `T` time, `P` a shared context, `N` measured positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from enaction.framing import Framed
from enaction.reader.batching import batches, pace_of, shared_contexts
from enaction.reader.forward import Forward
from enaction.reader.measuring import LOGITS_IN_FLIGHT, cut, measure, nothing_measured
from enaction.reader.memory import halving
from enaction.reader.rotary import side
from enaction.reader.statistics import TokenStats, Wanted


@dataclass(frozen=True)
class Scoring:
    """How passages are read by one model.

    Attributes:
        forward: of the model.
        vocabulary: rows of its output head.
        switches: lengths beyond which it rotates positions otherwise; a batch is on one side of each.
        wanted: statistics beyond the four.
        token_budget: tokens in a batch, padding included.
        too_large: what to say of a passage that does not fit into memory by itself.
    """

    forward: Forward
    vocabulary: int
    switches: Sequence[int]
    wanted: Wanted | None
    token_budget: int
    too_large: Callable[[Framed], str]

    def score(self, framed: Sequence[Framed], progress: Callable[[int, int], None] | None) -> list[TokenStats]:
        """Statistics of each passage in the order given, each on one side of every switch; in inference mode.

        Raises:
            ModelError: a passage by itself does not fit into memory.
        """
        results = [nothing_measured(self.vocabulary, self.wanted)] * len(framed)
        measured = [i for i, f in enumerate(framed) if f.stop > f.start]
        done = len(framed) - len(measured)
        planned, shared = self._plan(framed, measured)
        scored = halving(
            planned,
            lambda batch: self._batch([framed[i] for i in batch], shared[batch[0]]),
            size=lambda batch: len(batch) * max(framed[i].stop for i in batch),
            too_large=lambda i: self.too_large(framed[i]),
        )
        for batch, scores in scored:
            for index, stats in zip(batch, scores, strict=True):
                results[index] = stats
            done += len(batch)
            if progress is not None:
                progress(done, len(framed))
        return results

    def _plan(self, framed: Sequence[Framed], measured: list[int]) -> tuple[list[list[int]], dict[int, int]]:
        """Batches, and how many leading tokens each passage shares with the others of its batch, which are run once."""
        budget, pace = self.token_budget, pace_of(self.forward.device.type)
        if self.forward.head is None:
            # The model's own forward holds logits of every position; keep them near the same bound.
            budget = min(budget, max(1, 2 * LOGITS_IN_FLIGHT // self.vocabulary))
        planned, shared = [], {}
        by_side: dict[int, list[int]] = {}
        for i in measured:
            by_side.setdefault(side(framed[i].stop - 1, self.switches), []).append(i)
        for on, members in by_side.items():
            for together, length in self._groups(framed, members, on):
                planned += batches(framed, together, budget, length, pace.batch_cost)
                shared |= dict.fromkeys(together, length)
        return planned, shared

    def _groups(self, framed: Sequence[Framed], members: list[int], on: int) -> list[tuple[list[int], int]]:
        """Passages on one side of the switches, those that share a context together, with its length; 0 for others."""
        if self.forward.head is None:
            return [(members, 0)]
        groups, alone = shared_contexts(framed, members, pace_of(self.forward.device.type))
        kept = []
        for together, length in groups:
            # A context that is read by itself has to be on the side of the texts that continue it.
            if side(length, self.switches) == on and self.forward.can_share:
                kept.append((together, length))
            else:
                alone = [*alone, *together]
        return [*kept, (alone, 0)]

    def _batch(self, batch: list[Framed], shared: int) -> list[TokenStats]:
        forward, device = self.forward, self.forward.device
        lengths = [f.stop - 1 - shared for f in batch]
        longest = max(lengths)
        ids_BT = np.zeros((len(batch), longest), dtype=np.int64)
        mask_BT = np.zeros((len(batch), longest), dtype=np.int64)
        for row, (f, length) in enumerate(zip(batch, lengths, strict=True)):
            ids_BT[row, :length] = f.ids[shared : f.stop - 1]
            mask_BT[row, :length] = 1
        row_N = np.concatenate([np.full(f.stop - f.start, row) for row, f in enumerate(batch)])
        position_N = np.concatenate([np.arange(f.start - 1, f.stop - 1) - shared for f in batch])
        targets_N = torch.tensor([i for f in batch for i in f.ids[f.start : f.stop]], dtype=torch.long)
        # A mask of ones says nothing, and without one the attention kernels take their plain causal path.
        mask = None if mask_BT.all() else torch.from_numpy(mask_BT).to(device)
        index_N = torch.from_numpy(row_N * longest + position_N)
        ids = torch.from_numpy(ids_BT).to(device)
        if shared:
            output = forward.continued(torch.tensor([batch[0].ids[:shared]], device=device), ids, mask)
        else:
            output = forward.run(input_ids=ids, attention_mask=mask, use_cache=False)
        given = (output.logits if forward.head is None else output.last_hidden_state).flatten(0, 1)
        columns = measure(forward.head, given, index_N, targets_N, self.vocabulary, self.wanted)
        return cut(columns, [f.stop - f.start for f in batch])
