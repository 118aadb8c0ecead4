"""The text of each token: together they are the response, whatever the tokenizer does to spaces and characters."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import families
import numpy as np
import pytest
import tiny
from families import FAMILIES
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from enaction.framing import token_texts
from enaction.passages import Passage
from enaction.reader import Reader
from enaction.sampling import sample
from enaction.tokens import SCHEMA, TEXT, read_token_table, score_passages, token_ends, with_text, write_token_table
from enaction.words import FRAMINGS, Framing

TEXTS = st.lists(
    st.sampled_from([" ", "  ", "\n\n", "the", " fox", "é", "🦊", "東京", "\ufffd", "👩‍👧", "'s", ".", "1,0"])
)


@functools.cache
def _tokenizer(name: str) -> PreTrainedTokenizerFast:
    return families.TOKENIZERS[name](FAMILIES["chatml"], bos=False)


def _decode(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("name", families.TOKENIZERS)
@given(pieces=TEXTS, seed=st.randoms(use_true_random=False))
def test_the_texts_of_tokens_are_the_text(name: str, pieces: list[str], seed: object) -> None:
    tokenizer, text = _tokenizer(name), "".join(pieces)
    decode = functools.partial(_decode, tokenizer)
    for ids in (list(tokenizer(text, add_special_tokens=False)["input_ids"]), _random_ids(tokenizer, seed)):
        whole, texts = decode(ids), token_texts(decode, ids)
        assert "".join(texts) == whole
        assert len(texts) == len(ids)
        # Brute force: what the text has grown by, up to the last whole character.
        grown = [decode(ids[:n]) for n in range(len(ids) + 1)]
        ends = [len(t) for t in grown if not t.endswith("\ufffd")]
        assert set(ends) <= {len("".join(texts[:n])) for n in range(len(ids) + 1)}
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if decode(ids).strip() == text.strip():
        assert "".join(token_texts(decode, ids, text)).strip() == text.strip()


def _random_ids(tokenizer: PreTrainedTokenizerFast, seed: object) -> list[int]:
    return [seed.randrange(len(tokenizer)) for _ in range(seed.randrange(12))]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_character_belongs_to_the_token_that_completes_it() -> None:
    tokenizer = tiny.byte_tokenizer()
    decode = functools.partial(_decode, tokenizer)
    ids = list(tokenizer("a🦊b", add_special_tokens=False)["input_ids"])
    assert token_texts(decode, ids, "a🦊b") == ["a", "", "", "", "🦊", "b"]
    assert token_texts(decode, ids[:3]) == ["a", "", "\ufffd"]  # cut off inside it
    assert token_texts(decode, ids[:3], "a\ufffd") == ["a", "", "\ufffd"]


@pytest.fixture(scope="module")
def reader() -> Reader:
    tokenizer = tiny.byte_tokenizer()
    return Reader(tiny.llama(len(tokenizer)), tokenizer, name="r")


@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_table_holds_the_text_of_every_response(framing: str, reader: Reader, tmp_path: Path) -> None:
    own = sample(reader, ["tell me", "why"], n=4, max_new_tokens=20)
    foreign = [tiny.passage("the 🦊 was\n\n  here"), Passage("e", "p", tiny.user("why"), " so ", "x", ended=True)]
    passages = [*own, *(replace(p, id=f"f{i}") for i, p in enumerate(foreign))]
    table = score_passages(reader, passages, framing)  # pyright: ignore[reportArgumentType]
    assert table.column_names == [*SCHEMA.names, TEXT]
    for passage in passages:
        texts = [row[TEXT] for row in table.to_pylist() if row["passage_id"] == passage.id]
        assert "".join(texts).strip() == passage.response.strip()
    assert {row[TEXT] for row in table.to_pylist() if row["is_end"]} <= {""}
    without = score_passages(reader, passages, framing, with_text=False)  # pyright: ignore[reportArgumentType]
    assert without.schema.equals(SCHEMA)
    again = with_text(without, reader)
    assert again.column_names == table.column_names
    mine = [name in {p.id for p in own} for name in table["passage_id"].to_pylist()]
    assert again.filter(mine)[TEXT].to_pylist() == table.filter(mine)[TEXT].to_pylist()
    for kind in ("parquet", "csv"):
        write_token_table(table, tmp_path / f"t.{kind}")
    assert read_token_table(tmp_path / "t.parquet").equals(table)
    assert (tmp_path / "t.csv").read_text(encoding="utf-8").startswith('"reader",')


@pytest.mark.parametrize("name", families.TOKENIZERS)
@pytest.mark.parametrize("framing", ["assistant", "none"])
def test_a_text_that_its_ids_do_not_spell_is_kept_letter_for_letter(name: str, framing: Framing) -> None:
    """Letters that are unknown or changed, and special tokens, which some decoders put a space after."""
    tokenizer = _tokenizer(name)
    reader = Reader(tiny.llama(len(tokenizer)), tokenizer, name="r")
    texts = ["the 🦊  foxé", "</s>the ﬁ\n\n東京", " e\u0301\tＡ'sé fox", "a<|im_end|>the  🦊é", "👩‍👧 ß"]
    passages = [Passage(str(i), "p", tiny.user("why"), text, "x") for i, text in enumerate(texts)]
    table = score_passages(reader, passages, framing)
    for passage, ends in zip(passages, token_ends(reader, passages, framing), strict=True):
        rows = table.filter([of == passage.id for of in table["passage_id"].to_pylist()])[TEXT].to_pylist()
        assert "".join(rows) == passage.response
        assert ends[-1] == len(passage.response)
        assert [len(text) for text in rows] == np.diff(ends, prepend=0).tolist()


def test_a_letter_of_several_tokens_belongs_to_the_last_of_them() -> None:
    assert token_texts(lambda ids: "?" * len(ids), [1, 2, 3, 4], "aﬁb", [1, 2, 2, 3]) == ["a", "", "ﬁ", "b"]


def test_letters_that_the_tokenizer_does_not_know_are_kept() -> None:
    tokenizer = tiny.word_tokenizer()
    passage = tiny.passage("the zebra  was here")
    reader = Reader(tiny.llama(len(tokenizer)), tokenizer, name="r")
    assert "".join(score_passages(reader, [passage], "assistant")[TEXT].to_pylist()) == passage.response


def test_a_first_token_that_nothing_predicts_has_no_text() -> None:
    tokenizer = tiny.byte_tokenizer(None)
    reader = Reader(tiny.llama(len(tokenizer)), tokenizer, name="r")
    table = score_passages(reader, [Passage("a", "p", (), "the old fox", "x")], "none")
    assert "the old fox".endswith("".join(table[TEXT].to_pylist()))
    assert table["position"].to_pylist()[0] == 1
