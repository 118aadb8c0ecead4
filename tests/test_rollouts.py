"""Rollouts of each framework: a small row as it writes them, with known values; and what is no rollout, in one line."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enaction.errors import PassageError
from enaction.passages import Message
from enaction.rollouts import Rollout, Span, read_rollouts
from enaction.rollouts import streams as streams_module
from enaction.rollouts.aliases import ALIASES

Row = dict[str, Any]
USER = {"role": "user", "content": "why"}


def _lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _array(path: Path, rows: list[Any]) -> Path:
    path = path.with_suffix(".json")
    path.write_text("\ufeff \n" + json.dumps(rows, indent=1), encoding="utf-8")
    return path


def _parquet(path: Path, rows: list[Any]) -> Path:
    path = path.with_suffix(".parquet")
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=1)
    return path


def _read(tmp_path: Path, *rows: Row, **options: Any) -> list[Rollout]:
    return list(read_rollouts(_lines(tmp_path / "r.jsonl", list(rows)), **options))


def _plain(array: np.ndarray | None) -> list[float | None] | None:
    return None if array is None else [None if math.isnan(v) else float(v) for v in array]


# Framework -> a row as it writes it; what its rollouts hold: prompt ids, ids, log q, mask, and more by name.
VLLM = {"request_id": "r1", "prompt": "<user>why", "prompt_token_ids": [1, 2]}
TOP = [{"7": {"logprob": -0.5, "rank": 2}, "3": {"logprob": -0.1, "rank": 1}}, {"8": {"logprob": -0.25, "rank": 1}}]
VLLM |= {"outputs": [{"index": 0, "text": "so", "token_ids": [7, 8], "logprobs": TOP}]}
CHAT = [{"token": "s", "logprob": -0.5}, {"token": "o", "logprob": -0.25}]
SLIME = {"group_index": 4, "index": 9, "prompt": [USER], "tokens": [1, 2, 7, 8], "response": "so", "response_length": 2}
SLIME |= {"rollout_log_probs": [-0.5, -0.25], "loss_mask": [1, 1], "weight_versions": ["3"], "status": "completed"}
GYM_TURN = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "so"}]}
GYM_TURN |= {"prompt_token_ids": [1, 2], "generation_token_ids": [7, 8], "generation_log_probs": [-0.5, -0.25]}
GYM = {"responses_create_params": {"input": [USER], "temperature": 0.6, "top_p": 0.9}, "reward": 1.0}
GYM |= {"response": {"id": "x", "output": [{"type": "reasoning", "summary": []}, GYM_TURN]}}
FORMS: dict[str, tuple[Row, dict[str, Any]]] = {
    "trl": (
        {
            **{"prompt_ids": [1, 2], "completion_ids": [7, 8], "completion_mask": [1, 1]},
            **{"sampling_per_token_logps": [-0.5, -0.25], "old_per_token_logps": [-0.4, -0.2]},
        },
        {"trainer_logprobs": [-0.4, -0.2], "mask": [1, 1]},
    ),
    "verl": (
        {
            **{"prompts": [0, 1, 2], "responses": [7, 8, 0], "attention_mask": [0, 1, 1, 1, 1, 0], "uid": "u"},
            **{"response_mask": [1, 1, 0], "rollout_log_probs": [-0.5, -0.25, 0.0]},
            **{"old_log_probs": [-0.4, -0.2, 0.0], "entropys": [1.0, 2.0, 0.0]},
        },
        {
            **{"token_ids": (7, 8, 0), "sampler_logprobs": [-0.5, -0.25, None], "mask": [1, 1, 0], "cluster": "u"},
            **{"trainer_logprobs": [-0.4, -0.2, None], "entropies": [1.0, 2.0, None]},
        },
    ),
    "vllm": (VLLM, {"id": "r1#1", "response": "so"}),
    "vllm kept": (
        {"prompt_token_ids": [1, 2], "token_ids": [7, 8], "logprobs": [-0.5, -0.25]}
        | {"sampling_params": {"temperature": 0.7, "top_p": 0.8, "top_k": -1, "n": 1}},
        {"temperature": 0.7, "top_p": 0.8, "top_k": None},
    ),
    "vllm server": (
        {"id": "c", "prompt_token_ids": [1, 2], "choices": [
            {"message": {"role": "assistant", "content": "so"}, "token_ids": [7, 8], "logprobs": {"content": CHAT}}]},
        {"id": "c#1", "response": "so"},
    ),
    "vllm completions": (
        {"choices": [{"text": "so", "prompt_token_ids": [1, 2], "logprobs": {
            "tokens": ["token_id:7", "token_id:8"], "token_logprobs": [-0.5, -0.25], "top_logprobs": None}}]},
        {"response": "so"},
    ),
    "sglang": (
        {"text": "so", "prompt_ids": [1, 2], "meta_info": {"id": "s", "finish_reason": {"type": "stop"},
         "output_token_logprobs": [[-0.5, 7, None], [-0.25, 8, None]], "weight_version": "12"}},
        {"id": "s#1", "versions": (Span("12", 0, 2),), "response": "so"},
    ),
    "sglang ids": (
        {"output_ids": [7, 8], "prompt_token_ids": [1, 2], "output_token_logprobs": [[-0.5, 7], [-0.25, 8]]}
        | {"weight_versions": [{"version": 3, "start": 0, "end": 1}, {"version": 4, "start": 1, "end": 2}]},
        {"versions": (Span("3", 0, 1), Span("4", 1, 2))},
    ),
    "slime": (SLIME, {"mask": [1, 1], "versions": (Span("3", 0, 2),), "cluster": "4", "id": "9#1", "response": "so"}),
    "nemo-gym": (GYM, {"prompt": (Message(role="user", content="why"),), "temperature": 0.6, "top_p": 0.9}),
    "nemo-rl": (
        {"message_log": [{"role": "user", "token_ids": [1, 2]}, {"role": "assistant", "token_ids": [7, 8],
                         "generation_logprobs": [-0.5, -0.25]}, {"role": "tool", "token_ids": [9]}]},
        {"token_ids": (7, 8, 9), "mask": [1, 1, 0], "sampler_logprobs": [-0.5, -0.25, None]},
    ),
    "skyrl export": (
        {"input_ids": [1, 2, 7, 9, 8], "loss_mask": [0, 0, 1, 0, 1], "rollout_logprobs": [0.0, 0.0, -0.5, 0.0, -0.25]},
        {"token_ids": (7, 9, 8), "mask": [1, 0, 1], "sampler_logprobs": [-0.5, None, -0.25]},
    ),
    "skyrl": (
        {"prompt_token_ids": [[1, 2]], "response_ids": [[7, 8]], "loss_masks": [[1, 1]], "rewards": [1.0],
         "rollout_logprobs": [[-0.5, -0.25]]},
        {"mask": [1, 1]},
    ),
    "harbor": (
        {"agent_result": {"rollout_details": [{"prompt_token_ids": [[1, 2]], "completion_token_ids": [[7, 8]],
                                               "logprobs": [[-0.5, -0.25]]}]}},
        {},
    ),
    "tinker": ({"tokens": [7, 8], "maybe_logprobs": [-0.5, -0.25], "stop_reason": "stop"}, {"prompt_ids": None}),
    "tinker transition": (
        {"transitions": [{"ob": {"chunks": [{"type": "encoded_text", "tokens": [1]}, {"tokens": [2]}]},
                          "ac": {"tokens": [7, 8], "maybe_logprobs": [-0.5, -0.25]}, "reward": 1.0}]},
        {},
    ),
    "tinker sequences": ({"prompt_ids": [1, 2], "sequences": [{"tokens": [7, 8], "logprobs": [-0.5, -0.25]}]}, {}),
    "verifiers": (
        {"trajectory": [{"prompt": [USER], "tokens": {"prompt_ids": [1, 2], "prompt_mask": [0, 0],
                         "completion_mask": [1, 1], "completion_ids": [7, 8], "completion_logprobs": [-0.5, -0.25]}}]},
        {"mask": [1, 1], "prompt": (Message(role="user", content="why"),)},
    ),
    "areal": (
        {"input_ids": [1, 2, 7, 8], "loss_mask": [0, 0, 1, 1], "logprobs": [0.0, 0.0, -0.5, -0.25]}
        | {"versions": [-1, -1, 5, 6], "attention_mask": [1, 1, 1, 1]},
        {"mask": [1, 1], "versions": (Span("5", 0, 1), Span("6", 1, 2))},
    ),
    "numbers of torch": (
        {"input_ids": [1, 2, 7, 8], "mask": [0.0, 0.0, 1.0, 1.0], "logprobs": [None, None, -0.5, -0.25]},
        {"mask": [1, 1]},
    ),
}  # fmt: skip


_MIXED = ("sglang", "sglang ids")  # Parquet holds no lists of mixed kinds


@pytest.mark.parametrize(
    ("name", "write"),
    [(n, w) for n in FORMS for w in (_lines, _array, _parquet) if w is not _parquet or n not in _MIXED],
)
def test_a_row_of_each_framework_gives_its_tokens_and_log_probabilities(
    name: str, write: Callable[[Path, list[Any]], Path], tmp_path: Path
) -> None:
    row, more = FORMS[name]
    (rollout,) = read_rollouts(write(tmp_path / "r.jsonl", [row]))
    wanted = {"prompt_ids": (1, 2), "token_ids": (7, 8), "sampler_logprobs": [-0.5, -0.25]} | more
    found = {key: getattr(rollout, key) for key in wanted}
    found = {key: _plain(value) if isinstance(value, np.ndarray) else value for key, value in found.items()}
    assert found == wanted
    for values in (rollout.mask, rollout.trainer_logprobs, rollout.entropies, rollout.sampler_logprobs):
        assert values is None or len(values) == len(rollout.token_ids or ())


def test_the_table_of_the_docs_is_that_of_the_code() -> None:
    rows = [f"| `{name}` | {', '.join(f'`{a}`' for a in aliases)} |" for name, aliases in ALIASES.items()]
    assert "\n".join(rows) in (Path(__file__).parents[1] / "docs" / "inputs.md").read_text()


TEXTS: dict[str, tuple[Row, str]] = {
    "trl log_completions": ({"step": 3, "prompt": "why", "completion": "so", "accuracy": 0.5, "advantage": 1.0}, "so"),
    "trl conversational": ({"prompt": [USER], "completion": [{"role": "assistant", "content": "so"}]}, "so"),
    "verl rollout_data_dir": ({"input": "why", "output": "so", "gts": "x", "score": 1.0, "step": 2}, "so"),
    "openai": ({"messages": [USER, {"role": "assistant", "content": "so"}]}, "so"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_logs_of_text_alone_give_text(name: str, tmp_path: Path) -> None:
    row, response = TEXTS[name]
    (rollout,) = _read(tmp_path, row)
    assert (rollout.prompt, rollout.response, rollout.token_ids) == ((USER,), response, None)


def test_turns_of_a_row_are_rollouts_of_one_cluster(tmp_path: Path) -> None:
    first, second = _read(
        tmp_path,
        {
            **{"prompt_token_ids": [[1], [1, 2, 3]], "completion_token_ids": [[2], [4, 5]]},
            **{"logprobs": [[-1.0], [-0.5, -0.25]], "loss_mask": [[1], [1, 0]]},
        },
    )
    assert (first.id, second.id, first.cluster == second.cluster) == ("1/0", "1/1", True)
    assert (second.prompt_ids, second.token_ids, _plain(second.sampler_logprobs)) == ((1, 2, 3), (4, 5), [-0.5, -0.25])
    assert (_plain(first.mask), _plain(second.mask)) == ([1], [1, 0])


def test_a_batch_in_a_row_keeps_its_prompts_apart(tmp_path: Path) -> None:
    """As slime's training data: several answers to two prompts."""
    a, b, c = _read(
        tmp_path,
        {"tokens": [[1, 7], [1, 8], [2, 9, 9]], "response_lengths": [1, 1, 2], "loss_masks": [[1], [1], [1, 1]]},
    )
    assert [r.token_ids for r in (a, b, c)] == [(7,), (8,), (9, 9)]
    assert a.cluster == b.cluster != c.cluster


def test_several_answers_to_one_prompt_share_it(tmp_path: Path) -> None:
    row = VLLM | {"outputs": [{"token_ids": [7], "logprobs": [-0.5]}, {"token_ids": [8], "logprobs": [-0.25]}]}
    one, two = _read(tmp_path, row)
    assert (one.id, two.id) == ("r1#1/0", "r1#1/1")
    assert one.prompt_ids == two.prompt_ids == (1, 2)
    assert one.cluster == two.cluster


def test_rows_of_one_prompt_are_one_cluster_by_ids_or_by_messages(tmp_path: Path) -> None:
    ids = [r.cluster for r in _read(tmp_path, *({"prompt_ids": p, "token_ids": [5]} for p in ([1], [1], [2])))]
    texts = [r.cluster for r in _read(tmp_path, *({"prompt": p, "token_ids": [5]} for p in ("a", "a", "b")))]
    none = [r.cluster for r in _read(tmp_path, {"token_ids": [5]}, {"token_ids": [5]})]
    assert [len(set(clusters)) for clusters in (ids, texts, none)] == [2, 2, 2]


def test_columns_that_are_named_go_before_those_that_are_known(tmp_path: Path) -> None:
    row = {"token_ids": [1, 2], "mine": [3, 4], "logprobs": [-1, -1], "q": [-0.5, -0.25], "p": [-0.4, -0.2]}
    named = {"token_ids": "mine", "sampler_logprobs": "q", "trainer_logprobs": "p"}
    (rollout,) = _read(tmp_path, row, columns=named)
    assert rollout.token_ids == (3, 4)
    assert _plain(rollout.sampler_logprobs) == [-0.5, -0.25]
    assert _plain(rollout.trainer_logprobs) == [-0.4, -0.2]


def test_a_column_that_is_named_for_one_thing_is_not_another_too(tmp_path: Path) -> None:
    row = {"token_ids": [1], "logprobs": [-0.5], "rollout_log_probs": [-0.25]}
    (rollout,) = _read(tmp_path, row, columns={"trainer_logprobs": "logprobs"})
    assert (_plain(rollout.sampler_logprobs), _plain(rollout.trainer_logprobs)) == ([-0.25], [-0.5])


def test_padding_is_left_out_by_the_attention_mask_alone(tmp_path: Path) -> None:
    row = {"prompts": [0, 1], "responses": [7, 0], "attention_mask": [0, 1, 1, 0], "rollout_log_probs": [-0.5, 0.0]}
    (rollout,) = _read(tmp_path, row)
    assert (rollout.prompt_ids, _plain(rollout.mask), _plain(rollout.sampler_logprobs)) == ((1,), [1, 0], [-0.5, None])


def test_log_probabilities_that_a_doctor_must_see_are_kept(tmp_path: Path) -> None:
    """Above zero, all equal, far below: faults to be named, not rows to be refused."""
    (rollout,) = _read(tmp_path, {"token_ids": [1, 2, 3], "logprobs": [0.5, -9999.0, 0.0], "loss_mask": [1, 1, 1]})
    assert _plain(rollout.sampler_logprobs) == [0.5, -9999.0, 0.0]


def test_a_placeholder_is_one_only_where_the_mask_leaves_the_token_out(tmp_path: Path) -> None:
    row = {"token_ids": [1, 2, 3, 4], "logprobs": [0.0, 0.0, -1.0, float("nan")], "loss_mask": [1, 0, 0, 0]}
    (rollout,) = _read(tmp_path, row)
    assert _plain(rollout.sampler_logprobs) == [0.0, None, -1.0, None]


def test_means_that_a_trainer_logged_go_with_the_row(tmp_path: Path) -> None:
    (rollout,) = _read(tmp_path, {"token_ids": [1], "entropy": 0.7, "metrics": {"kl": 0.01, "lr": 1.0}})
    assert (rollout.logged, rollout.entropies) == ({"entropy": 0.7, "kl": 0.01}, None)
    (rollout,) = _read(tmp_path, {"token_ids": [1], "entropy": [0.7]})
    assert (rollout.logged, _plain(rollout.entropies)) == (None, [0.7])


def test_spans_that_count_from_the_prompt_are_those_of_the_answer(tmp_path: Path) -> None:
    spans = [{"version": "a", "start": 0, "end": 3}, {"version": "b", "start": 3, "end": 5}]
    (rollout,) = _read(tmp_path, {"prompt_ids": [1, 2], "token_ids": [3, 4, 5], "weight_versions": spans})
    assert rollout.versions == (Span("a", 0, 1), Span("b", 1, 3))


def test_versions_without_places_say_nothing(tmp_path: Path) -> None:
    (rollout,) = _read(tmp_path, {"token_ids": [3, 4, 5], "weight_versions": ["1", "2"]})
    assert rollout.versions == ()


def test_the_rest_of_a_file_is_not_read_after_the_limit(tmp_path: Path) -> None:
    path = _lines(tmp_path / "r.jsonl", [{"token_ids": [1]}, 7])
    assert [r.token_ids for r in read_rollouts(path, limit=1)] == [(1,)]
    with pytest.raises(PassageError, match="line 2"):
        list(read_rollouts(path))


_KEYS = st.sampled_from([*(name for names in ALIASES.values() for name in names[:4]), "outputs", "choices", "turns"])
_KEYS |= st.sampled_from(["message_log", "meta_info", "ob", "sampling_params", "responses_create_params", "message"])
_KEYS |= st.sampled_from(["logprobs", "content", "version", "start", "end", "role", "chunks", "output", "entropy"])
_SCALARS = st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.sampled_from(["", "user", "token_id:1"])
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3), max_leaves=12
)


@settings(max_examples=400, deadline=None)
@given(row=st.dictionaries(_KEYS, _VALUES, max_size=5))
def test_any_row_is_rollouts_or_one_line(row: Row, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = _lines(tmp_path_factory.getbasetemp() / "any.jsonl", [row])
    try:
        for rollout in read_rollouts(path):
            n = len(rollout.token_ids or ())
            for values in (rollout.mask, rollout.sampler_logprobs, rollout.trainer_logprobs, rollout.entropies):
                assert values is None or values.shape == (n,)
            assert all(0 <= span.start < span.stop <= n for span in rollout.versions)
    except PassageError as error:
        said = str(error)
        assert "\n" not in said


REFUSED: dict[str, tuple[Any, str]] = {
    "nothing known": ({"obs": [1], "act": [2]}, r"columns obs, act; looked for token ids \(token_ids,.*--column"),
    "no columns": ({}, r"columns \(none\)"),
    "texts as ids": ({"tokens": ["a", "b"], "logprobs": [-1, -1]}, "no rollout in the columns tokens, logprobs"),
    "numbers without ids": ({"response": "a", "logprobs": [-1.0]}, "sampler_logprobs without token ids mean nothing"),
    "too few": ({"token_ids": [1, 2], "logprobs": [-1.0]}, "1 entries of sampler_logprobs for 2 token_ids; give one"),
    "one too many": ({"token_ids": [1, 2], "logprobs": [-1, -1, -1]}, "3 entries of sampler_logprobs for 2 token_ids"),
    "without the first": (
        {"prompt_ids": [1, 2], "token_ids": [3, 4], "logprobs": [-1, -1, -1]},
        "3 entries of sampler_logprobs for 2 token_ids .and 2 of the prompt.; .* put null before them",
    ),
    "mask too short": ({"token_ids": [1, 2], "loss_mask": [1]}, "1 entries of mask for 2 token_ids"),
    "entropies too short": ({"token_ids": [1, 2], "entropies": [1]}, "1 entries of entropies for 2"),
    "infinite": ({"token_ids": [1], "logprobs": [-math.inf]}, "must hold finite numbers, and entry 0 is -inf"),
    "not a number": ({"token_ids": [1], "logprobs": [math.nan]}, "must hold finite numbers, and entry 0 is nan"),
    "a huge number": ({"token_ids": [1], "logprobs": [10**400]}, "a number beyond all of them"),
    "a text": ({"token_ids": [1], "logprobs": ["-1"]}, "entry 0 is '-1'"),
    "true": ({"token_ids": [1], "logprobs": [True]}, "entry 0 is True"),
    "an object": ({"token_ids": [1], "logprobs": {"a": 1}}, "sampler_logprobs is an object of no known shape"),
    "huge id": ({"token_ids": [2**40]}, r"'token_ids' must hold token ids .* entry 0 is 1099511627776"),
    "endless id": ({"token_ids": [10**30]}, "entry 0 is a number beyond all of them"),
    "negative id": ({"token_ids": [1, -100]}, "entry 1 is -100"),
    "id true": ({"token_ids": [True]}, "entry 0 is True"),
    "id half": ({"token_ids": [1.5]}, "entry 0 is 1.5"),
    "id null": ({"token_ids": [1, None]}, "entry 1 is None"),
    "nested twice": ({"token_ids": [[[1]]]}, "entry 0 is a list"),
    "ragged": ({"token_ids": [[1], 2]}, "entry 0 is a list"),
    "mask of twos": ({"token_ids": [1], "loss_mask": [2]}, "'mask' must hold 0 and 1, or .* entry 0 is 2"),
    "turns uneven": ({"token_ids": [[1], [2]], "logprobs": [[-1]]}, "1 lists of sampler_logprobs for 2 lists"),
    "no mask": ({"input_ids": [1, 2, 3], "logprobs": [0, 0, -1]}, "hold the prompt and the answer; add loss_mask"),
    "nothing trainable": ({"input_ids": [1, 2], "loss_mask": [0, 0]}, "no token is trainable"),
    "length beyond": ({"tokens": [1, 2], "response_length": 3}, "response_length must be from 0 to the 2"),
    "ids of another row": (
        {"token_ids": [7, 8], "output_token_logprobs": [[-1, 7, None], [-1, 9, None]]},
        "the ids within sampler_logprobs differ from token_ids from token 1 on",
    ),
    "not the sampled token": ({"token_ids": [7], "logprobs": [{"8": {"logprob": -1}}]}, "no number for token 7"),
    "unknown pairs": ({"token_ids": [7], "logprobs": [["a", "b"]]}, "entry 0 of .* is a list of no known"),
    "top-k alone": ({"token_ids": [7], "logprobs": [[-1.0, -2.0]]}, "entry 0 of .* is a list of no known"),
    "two of a kind": (
        {"token_ids": [1], "logprobs": [-1], "rollout_log_probs": [-2]},
        "'logprobs' and 'rollout_log_probs' differ, .* say which with --column sampler_logprobs=logprobs",
    ),
    "hot": ({"token_ids": [1], "temperature": -1}, "'temperature' is -1 and must be a number from 0 to 100"),
    "no top-p": ({"token_ids": [1], "sampling_params": {"top_p": "x"}}, "'top_p' is 'x'"),
    "span beyond": ({"token_ids": [1], "weight_versions": [{"version": 1, "start": 0, "end": 9}]}, "the 1 tokens"),
    "span of nothing": ({"token_ids": [1], "weight_versions": [{}]}, "a version must be"),
    "a picture": ({"prompt": [{"role": "user", "content": [{"type": "image"}]}], "response": "a"}, "only text is read"),
    "half a character": ({"response": "\ud800"}, "lone surrogate"),
    "a list": ([1], "is a list|is no object"),
    "a number": (7, "is a number|is no object"),
}  # fmt: skip


@pytest.mark.parametrize("write", [_lines, _array])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_rollout_is_refused_by_its_row_in_one_line(
    name: str, write: Callable[[Path, list[Any]], Path], tmp_path: Path
) -> None:
    row, message = REFUSED[name]
    path = write(tmp_path / "r.jsonl", [{"token_ids": [1], "logprobs": [-1.0]}, row])
    rollouts = read_rollouts(path)
    assert next(rollouts).token_ids == (1,)
    with pytest.raises(PassageError, match=message) as caught:
        list(rollouts)
    assert str(caught.value).startswith(("line 2", "row 2"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("r.jsonl", b"", "holds no rollouts"),
    "empty array": ("r.json", b"[]", "holds no rollouts"),
    "cut off": ("r.json", b'[{"token_ids": [1]}, {"token_ids": [1', "row 2 of .* is not valid JSON"),
    "no end": ("r.json", b'[{"token_ids": [1]}', "row 2 of .* is not valid JSON"),
    "no comma": ("r.json", b'[{"token_ids": [1]} {"token_ids": [1]}]', "row 2 of .* is not valid JSON"),
    "two commas": ("r.json", b'[{"token_ids": [1]},,{"token_ids": [1]}]', "row 2 of .* is no object"),
    "comma at the end": ("r.json", b'[{"token_ids": [1]},]', "row 2 of .* is no object"),
    "deep": ("r.json", b'[{"a":' + b"[" * 10**5, "nested too deep"),
    "deep line": ("r.jsonl", b'{"a":' + b"[" * 10**5 + b"\n", "nested too deep"),
    "many digits": ("r.json", b'[{"token_ids": [' + b"1" * 5000 + b"]}]", "too many digits"),
    "latin-1": ("r.json", b'[{"response": "\xe9"}]', "is not UTF-8 text"),
    "no parquet": ("r.parquet", b"PAR1", "is not a readable Parquet file"),
    "torch": ("r.pt", b"PK", "torch.load"),
    "inspect": ("r.eval", b"PK", "is a log of Inspect, which holds no token ids"),
    "compressed": ("r.jsonl.gz", b"\x1f\x8b", "gunzip"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_cannot_be_read_are_one_line(name: str, tmp_path: Path) -> None:
    file, content, message = FILES[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(PassageError, match=message) as caught:
        list(read_rollouts(tmp_path / file))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_column_for_nothing_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(PassageError, match="there is no file"):
        list(read_rollouts(tmp_path / "none.jsonl"))
    with pytest.raises(PassageError, match="no column can be named for 'ids'; name one for token_ids"):
        _read(tmp_path, {"token_ids": [1]}, columns={"ids": "a"})
    with pytest.raises(PassageError, match="there is no column 'a' for token_ids; the row has token_ids"):
        _read(tmp_path, {"token_ids": [1]}, columns={"token_ids": "a"})


def test_rows_of_an_array_are_the_same_at_every_size_of_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"token_ids": list(range(n)), "response": 'a "]}, {[' * n} for n in range(1, 20)]
    path = _array(tmp_path / "r.json", rows)
    for size in (1, 2, 7, 64, 10**6):
        monkeypatch.setattr(streams_module, "_CHUNK", size)
        assert [len(r.token_ids or ()) for r in read_rollouts(path)] == list(range(1, 20))


def _peak(path: Path, rows: int) -> int:
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rollouts(path)) == rows
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _written(path: Path, rows: int) -> Path:
    """A large file of rows as vLLM's, written without holding it."""
    row = {"id": "a", "prompt_ids": [1, 2], "token_ids": [7] * 8, "logprobs": [-0.5] * 8}
    if path.suffix == ".parquet":
        table = pa.Table.from_pylist([row] * 500)
        with pq.ParquetWriter(path, table.schema) as writer:
            for _ in range(rows // 500):
                writer.write_table(table)
        return path
    line = json.dumps(row)
    is_array = path.suffix == ".json"
    with path.open("w") as handle:
        handle.write("[" if is_array else "")
        for number in range(rows):
            handle.write((", " if number and is_array else "") + line + ("" if is_array else "\n"))
        handle.write("]" if is_array else "")
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_memory_does_not_grow_with_the_file(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "_CHUNK", 1 << 13)
    few = _peak(_written(tmp_path / f"few.{suffix}", 500), 500)
    many = _peak(_written(tmp_path / f"many.{suffix}", 3000), 3000)
    assert many < few * 1.5 + 100_000


_RESIDENT = """
import resource, sys
from enaction.rollouts import read_rollouts

def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

for number, _ in enumerate(read_rollouts(sys.argv[1]), start=1):
    if number == 10_000:
        early = resident()
print(number, resident() - early)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_a_million_rows_are_read_in_constant_memory(suffix: str, tmp_path: Path) -> None:
    """As the system counts it, in a process of its own: at most 16 MB (KiB here) more than after 10,000 rows."""
    path = _written(tmp_path / f"r.{suffix}", 10**6)
    said = subprocess.run([sys.executable, "-c", _RESIDENT, str(path)], capture_output=True, text=True, check=True)
    rows, grown = map(int, said.stdout.split())
    assert (rows, grown < 16 * 1024) == (10**6, True)
