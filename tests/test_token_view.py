"""The view of a passage by two readers: every token at its word, nothing where text is not known or runs."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from enaction.findings import write_findings
from enaction.page import Page, Reading
from enaction.passages import Message, Passage
from enaction.report import build_report
from enaction.report.token_view import LEVELS, Token, views
from enaction.study.store import Cell, Run
from enaction.tokens import SCHEMA

ATTACK = "<script>alert(1)</script>"
TEXT = f"one  stormy day 🙂 {ATTACK} ended."
READING = Reading("a", ("a", "b"), "assistant", f"by {ATTACK}")


def a_tokenizer(merges: list[tuple[str, str]]) -> Tokenizer:
    """Bytes, and what the merges make of them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate([*alphabet, *("".join(pair) for pair in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    return tokenizer


def a_run(folder: Path, texts: tuple[str, ...] = ("short", TEXT, f"{TEXT} " * 40)) -> Run:
    """Two models with tokenizers of their own, a text of the first, read by both."""
    run, tokenizers = Run(folder / "run"), {"a": a_tokenizer([("o", "n"), ("on", "e")]), "b": a_tokenizer([("d", "a")])}
    passages = [
        Passage(
            id=f"{i}/0",
            prompt_id=f"p{i}",
            prompt=(Message(role="user", content=ATTACK),),
            response=text,
            author="a",
        )
        for i, text in enumerate(texts)
    ]
    run.write_passages("a", passages)
    for name, tokenizer in tokenizers.items():
        (folder / name).mkdir()
        tokenizer.save(str(folder / name / "tokenizer.json"))
        rows = []
        for passage in passages:
            ids = [*tokenizer.encode(passage.response).ids, 0]
            rows += [
                {
                    **{"reader": name, "author": "a", "framing": "assistant"},
                    **{"passage_id": passage.id, "prompt_id": passage.prompt_id, "position": i, "token_id": token},
                    **{"surprisal": float(i), "entropy": 0.5, "varentropy": 0.0, "rank": 0},
                    **{"is_first": i == 0, "is_end": i == len(ids) - 1},
                }
                for i, token in enumerate(ids)
            ]
        run.write_tokens(Cell(name, "a", "assistant"), pa.Table.from_pylist(rows, schema=SCHEMA))
    study = {"name": "x", "models": {name: {"model": str(folder / name), "family": name} for name in tokenizers}}
    (run.folder / "study.yaml").write_text(yaml.safe_dump(study))
    return run


def test_each_reader_has_all_tokens_of_each_word_in_order(tmp_path: Path) -> None:
    (view,) = views(a_run(tmp_path).folder, [READING])  # of three passages the one of middle length
    assert not view.is_cut
    for reader, end in ((0, "∎"), (1, "∎")):
        words = ["".join(token.text for token in word[reader] if token.text != "␣") for word in view.words]
        assert words == [*TEXT.split(), end]
    first, second = view.words[0]
    assert [token.text for token in first] == ["one", "␣", "␣"]
    assert [token.text for token in second] == ["o", "n", "e", "␣", "␣"]
    # Numbers go with their tokens, and the character of four bytes is whole.
    numbers = [token.surprisal for word in view.words for token in word[0]]
    assert numbers == [float(i) for i in range(len(numbers))]
    assert [token.text for word in view.words for token in word[1]].count("🙂") == 1
    assert view.means["a"] == (sum(numbers) / len(numbers), 0.5)
    assert view.prompt == [("user", ATTACK)]


def test_a_long_passage_is_cut_where_every_reader_still_has_whole_words(tmp_path: Path) -> None:
    run = a_run(tmp_path, (f"{TEXT} " * 40,))
    (cut,) = views(run.folder, [READING])
    assert cut.is_cut
    for reader in (0, 1):
        words = ["".join(token.text for token in word[reader] if token.text != "␣") for word in cut.words]
        assert words == run.passages("a")[0].response.split()[: len(words)] != []


@pytest.mark.parametrize("missing", ["tokenizer", "cell", "study", "text"])
def test_without_what_it_needs_there_is_no_view_and_no_error(tmp_path: Path, missing: str) -> None:
    run = a_run(tmp_path)
    match missing:
        case "tokenizer":
            (tmp_path / "b" / "tokenizer.json").unlink()
        case "cell":
            (run.folder / "tokens" / "b--a--assistant.parquet").unlink()
        case "study":
            (run.folder / "study.yaml").unlink()
        case "text":
            a_tokenizer([]).save(str(tmp_path / "a" / "tokenizer.json"))
    assert views(run.folder, [READING]) == []


def test_shades_are_of_half_a_nat_and_end() -> None:
    assert Token("x", 0.1, 0.6).shades == (0, 1)
    assert Token("x", 99.0, float("inf")).shades == (LEVELS, LEVELS)


def test_the_report_shows_it_without_script_and_escapes_the_text(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    write_findings(run.folder / "findings.json", [])
    page = build_report(run.folder, {"x": Page("X", "Is it?", readings=[READING])}).read_text()
    section = page[page.index('<section id="readings">') :].partition("</section>")[0]
    assert "<script" not in page
    assert "&lt;" in section
    assert "mean surprisal" in section
    assert section.count('class="word"') == len(TEXT.split()) + 1
    assert len(section) < 15_000
