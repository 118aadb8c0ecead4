"""Binoculars' ratio (Hans et al. 2024): a reader's surprisal over its mean surprisal at another's words.

Axes: `N` measured tokens, `V` vocabulary.
"""

from __future__ import annotations

import torch

from enaction.framing import Framed
from enaction.reader import Reader

# Tokens whose distributions are held at once.
_TOGETHER = 64


def binoculars(performer: Reader, observer: Reader, framed: Framed, observed: Framed) -> float:
    """Surprisal of the tokens to the performer over the cross-entropy of the observer's distributions to it.

    Both are summed over tokens, at temperature 1; below 1 where a text is less surprising than what the observer would
    have said.

    Args:
        performer: the model that is said to have sampled the tokens.
        observer: another with the same tokenizer.
        framed, observed: the same tokens as each of the two is given them.
    """
    surprisal = cross = 0.0
    with performer.reading(), observer.reading():
        ours = performer.forward.run(input_ids=_ids(performer, framed), use_cache=False)
        theirs = observer.forward.run(input_ids=_ids(observer, observed), use_cache=False)
        for start in range(0, framed.stop - framed.start, _TOGETHER):
            stop = min(start + _TOGETHER, framed.stop - framed.start)
            log_p_NV = _logits(performer, ours, framed, start, stop).log_softmax(1)
            q_NV = _logits(observer, theirs, observed, start, stop).softmax(1)
            token_N1 = torch.tensor(framed.ids[framed.start + start : framed.start + stop])[:, None]
            surprisal -= float(log_p_NV.gather(1, token_N1).double().sum())
            shared = min(log_p_NV.shape[1], q_NV.shape[1])
            cross -= float((q_NV[:, :shared] * log_p_NV[:, :shared]).double().sum())
    return surprisal / cross


def _ids(reader: Reader, framed: Framed) -> torch.Tensor:
    return torch.tensor([framed.ids[: framed.stop - 1]], device=reader.forward.device)


def _logits(reader: Reader, output: object, framed: Framed, start: int, stop: int) -> torch.Tensor:
    """Float32 logits [N, V] before measured tokens `start` to `stop`."""
    before = framed.start - 1
    positions = slice(before + start, before + stop)
    return reader.forward.logits(output, positions)[0].cpu()
