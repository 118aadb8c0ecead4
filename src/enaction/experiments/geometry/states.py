"""The table of states: what a model holds at some tokens of a text, layer by layer.

Axes: N token, C channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from enaction.passages import thinned
from enaction.study.desk import Desk
from enaction.study.planning import Measured, framing_for, own_framing
from enaction.words import Framing


@dataclass(frozen=True, kw_only=True)
class States(Measured):
    """States of one model at tokens of other models' texts, the same tokens for every model of a family.

    Attributes:
        authors: whose texts.
        framing: how they are read; a model without a template reads in `none`.
        n_prompts: of the study's, at most, spread evenly.
        n_tokens: at most, spread evenly over the texts.
        max_layers: of the residual stream, spread evenly, first and last among them.
    """

    authors: tuple[str, ...]
    framing: Framing
    n_prompts: int | None
    n_tokens: int
    max_layers: int

    def measure(self, desk: Desk) -> pa.Table:
        """A row a token: prompt, passage, position in the response, surprisal, H_t, H_{t+1}, and a state of each layer.

        States are float16, a fixed-size list in a column `layer L`.
        """
        from enaction.experiments.clean import clean
        from enaction.framing import frame
        from enaction.reader.interventions import Treated, layers

        reader = desk.reader
        framing = framing_for(own_framing(desk.study, desk.run, self.model), self.framing)
        chosen = {prompt.id: i for i, prompt in enumerate(thinned(desk.prompts, self.n_prompts))}
        passages = [p for author in self.authors for p in desk.passages(author) if p.prompt_id in chosen]
        framed = [frame(reader.tokenizer, p, framing, separator=desk.study.separator) for p in passages]
        n = layers(reader)
        kept = np.unique(np.linspace(0, n, min(n + 1, self.max_layers)).round().astype(int)).tolist()
        codes = [chosen[p.prompt_id] for p in passages]
        of = clean(Treated(reader, framed), [False] * len(framed), codes, kept)
        desk.progress(self.count, self.count)
        starts = np.array([f.start - f.skipped for f in framed])
        position = of.position - starts[of.passage]
        take = np.asarray(thinned(range(len(position)), self.n_tokens), dtype=np.int64)
        names = np.array([f"{p.author}/{p.id}" for p in passages])
        prompts = np.array(list(chosen))
        columns = {
            "prompt": pa.array(prompts[of.prompt[take]].tolist()),
            "passage": pa.array(names[of.passage[take]].tolist()),
            "position": pa.array(position[take]),
            "surprisal": pa.array(of.surprisal[take]),
            "entropy": pa.array(of.entropy[take]),
            "next_entropy": pa.array(of.next_entropy[take]),
        }
        for layer, state in of.states.items():
            flat = pa.array(state[take].astype(np.float16).reshape(-1))
            columns[f"layer {layer}"] = pa.FixedSizeListArray.from_arrays(flat, state.shape[1])
        return pa.table(columns)
