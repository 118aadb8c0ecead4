"""What a model has to show before it is read: next-token logits, one for each token, finite, and causal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from enaction.errors import ModelError
from enaction.reader.head import is_causal, look_ahead
from enaction.reader.placing import input_device, is_dispatched
from enaction.reader.precision import dtype_of, is_coarse, quantization_of
from enaction.reader.sources.source import first_line
from enaction.reader.stepping import accepted


def vocabulary_of(model: PreTrainedModel, name: str) -> int:
    """Rows of a model's output head; in inference mode, dropout off.

    Args:
        model: in question.
        name: for the messages.

    Raises:
        ModelError: it has no causal LM head, looks ahead, or cannot run in its dtype.
    """
    dtype = str(dtype_of(model)).removeprefix("torch.")
    with _forward_in_question(model, name, dtype):
        probe_11 = torch.zeros((1, 1), dtype=torch.long, device=input_device(model))
        probe = model(**accepted(model, {"input_ids": probe_11, "use_cache": False}))
        if not isinstance(getattr(probe, "logits", None), Tensor) or probe.logits.dim() != 3:
            raise ModelError(f"{name} is a {type(model).__name__} and gives no next-token logits: load a causal LM")
        if probe.logits.shape[1] != 1:
            raise ModelError(
                f"{name} makes {probe.logits.shape[1]} predictions of 1 token (a soft prompt, as prompt "
                "tuning puts it in front), so they cannot be told apart: load the model without it"
            )
        if probe.logits.isnan().any():
            raise ModelError(
                f"the logits of {name} are NaN in {dtype}: its weights are damaged, or too large for "
                "it; load them again, or as float32 or bfloat16"
            )
        if not is_causal(look_ahead(model), is_half=is_coarse(model)):
            raise ModelError(
                f"the predictions of {name} change with the tokens that come later, so they are not those of "
                "a causal LM: load a model that was made for writing (an encoder needs is_decoder=True in its "
                "configuration, and the training that goes with it)"
            )
        return probe.logits.shape[-1]


@contextmanager
def _forward_in_question(model: PreTrainedModel, name: str, dtype: str) -> Iterator[None]:
    """Report in one line why the model's own forward fails, such as two dtypes in half precision (xLSTM)."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # whatever the code of somebody's model raises
        quantised = quantization_of(model)
        if is_dispatched(model):
            remedy = "give what shares weights, as a tied head and the embedding do, one place in device_map"
        elif quantised is not None:
            remedy = f"{quantised} does not take it here: try dtype bfloat16 or float16, or plain weights"
        else:
            remedy = "load it as float32, or fix the model"
        raise ModelError(
            f"the forward of {name} ({type(model).__name__}) fails on a short text in {dtype} "
            f"({first_line(error)}): {remedy}"
        ) from error
