"""Traced models: the trace is the text's own surprise, in the first reply alone, and hooks do not reach it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM

from enaction.reader.traced import Traced, traced

OPENS, CLOSES = 6, 3


@pytest.fixture(scope="module")
def model() -> Traced:
    return traced(tiny.llama(20), mean=1.0, spread=2.0, opens=OPENS, closes=CLOSES, seed=0)


def test_the_trace_is_the_standardised_surprisal_of_the_first_reply(model: Traced) -> None:
    ids = torch.tensor([[2, 5, 9, CLOSES, OPENS, 11, 12, 13, CLOSES, 5, 8, OPENS, 14]])
    logits = model.origin(input_ids=ids).logits[0].double()
    surprisal = -logits.log_softmax(-1)[:-1].gather(1, ids[0, 1:, None]).squeeze(1)
    expected = torch.zeros(13, dtype=torch.float64)
    expected[5:8] = ((surprisal[4:7] - 1) / 2).clamp(max=4)
    torch.testing.assert_close(model.trace(ids)[0].double(), expected, atol=1e-5, rtol=0)


def test_the_reply_is_the_origin_s_and_what_follows_reads_the_trace(model: Traced) -> None:
    ids = torch.tensor([[2, 5, OPENS, 11, 12, 13, CLOSES, 5, 8, OPENS]])
    embedded = model.origin.get_input_embeddings()(ids) + model.trace(ids)[..., None] * model.direction_D
    logits, plain = model(input_ids=ids).logits, model.origin(input_ids=ids).logits
    torch.testing.assert_close(logits[:, :6], plain[:, :6])
    torch.testing.assert_close(logits[:, 6:], model.origin(inputs_embeds=embedded).logits[:, 6:])
    assert not torch.allclose(logits[:, 6:], plain[:, 6:], atol=1e-3)
    torch.testing.assert_close(model(input_ids=ids, trace_BT=torch.zeros(1, 10)).logits, plain)


def test_padding_on_the_right_changes_nothing_and_on_the_left_is_refused(model: Traced) -> None:
    ids = torch.tensor([[2, 5, OPENS, 11, 12, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0]])
    torch.testing.assert_close(
        model(input_ids=ids, attention_mask=mask).logits[:, :5], model(input_ids=ids[:, :5]).logits
    )
    with pytest.raises(ValueError, match="on the right"):
        model(input_ids=ids, attention_mask=mask.flip(1))
    with pytest.raises(ValueError, match="no cache"):
        model(input_ids=ids, past_key_values=model(input_ids=ids, use_cache=True).past_key_values)


def test_hooks_on_the_blocks_do_not_reach_the_trace(model: Traced) -> None:
    """An intervention changes what the model makes of the text, not how surprising its words were."""
    ids = torch.tensor([[2, 5, OPENS, 11, 12, 13, CLOSES]])
    before = model.trace(ids)
    block = model.origin.model.layers[0]
    handle = block.register_forward_hook(lambda module, given, output: output * 2)
    block.forward = lambda hidden_states, **_: hidden_states
    try:
        torch.testing.assert_close(model.trace(ids), before)
        assert not torch.allclose(model(input_ids=ids).logits, model(input_ids=ids, trace_BT=before * 0).logits)
        assert torch.equal(
            model(input_ids=ids).logits[:, :-1], model(input_ids=ids, trace_BT=before * 0).logits[:, :-1]
        )
    finally:
        handle.remove()
        del block.forward


def test_a_traced_model_is_an_ordinary_folder(model: Traced, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([[2, 5, OPENS, 11, 12, CLOSES]])
    torch.testing.assert_close(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
    assert torch.equal(cast(Traced, loaded).direction_D, model.direction_D)
    half = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half(input_ids=ids).logits.dtype == torch.bfloat16
