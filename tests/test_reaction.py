"""Reaction: the designed answer on organisms, exact and trained, and nothing on nulls; sums and alignment by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import handmade
import numpy as np
import pytest
import tiny

from enaction.analysis.data import Tokens
from enaction.experiments import analyse
from enaction.experiments.reaction import Reaction
from enaction.experiments.reaction.rows import Rows, at_ends, log_odds, rows_of
from enaction.findings import Findings
from enaction.lab.organisms import symbols
from enaction.passages import Passage, Prompt
from enaction.reader import Reader
from enaction.report.drawing import draw
from enaction.stats.partial import Regression, bent, knots_of
from enaction.study.config import Study
from enaction.study.store import Cell
from enaction.tokens import token_ends

LENGTH = 40
# A stage of two models each: an organism and the stranger of its seed.
ORGANISMS = ("surprise", "belief", "regime")


def _study(folder: Path, prompts: int = 32, **settings: object) -> Study:
    path = folder / "prompts.jsonl"
    path.write_text("".join(f'{{"id": "p{i}", "prompt": "{symbols.REGIMES[i % 2]}"}}\n' for i in range(prompts)))
    names = [*ORGANISMS, *(f"stranger-{name}" for name in ORGANISMS)]
    return Study.model_validate(
        {
            "name": "reaction",
            "models": {name: {"model": "nowhere", "stage": name.removeprefix("stranger-")} for name in names},
            "prompts": str(path),
            "experiments": {"reaction": settings},
            "resamples": 200,
            "sampling": {"per_prompt": 1},
        }
    )


def _exact(seed: int, *, strangers_babble: bool = False) -> tuple[handmade.Reading, handmade.Writing]:
    """What the processes of a seed write and measure, without a model; babble: all symbols are as likely."""

    @cache
    def process(name: str) -> symbols.Process:
        of = symbols.process(name.partition("-")[0], seed)
        is_babble = strangers_babble and of.name == "stranger"
        return replace(of, entropy=lambda state: np.full(len(state.regime), 2.302)) if is_babble else of

    @cache
    def texts(name: str, regime: int, n: int) -> np.ndarray:
        rng = np.random.default_rng([seed, regime, *name.encode()])
        return symbols.draw(process(name), np.full(100, regime), n, rng)

    @cache
    def truth(reader: str, author: str, regime: int, n: int) -> symbols.Truth:
        return symbols.read(process(reader), texts(author, regime, n))

    def read(cell: Cell, passage: Passage) -> tuple[np.ndarray, np.ndarray]:
        n = len(passage.response.split())
        of = truth(cell.reader, cell.author, symbols.REGIMES.index(passage.prompt[0]["content"]), n)
        number = int(passage.prompt_id[1:])
        return of.entropy[number, :-1], of.surprisal[number, 1:]

    def write(name: str, prompt: Prompt, n: int) -> Passage:
        regime, number = symbols.REGIMES.index(prompt.messages[0]["content"]), int(prompt.id[1:])
        words = " ".join(symbols.WORDS[i] for i in texts(name, regime, n)[number, 1:])
        return Passage(f"{prompt.id}/0", prompt.id, prompt.messages, words, name, {"framing": "assistant"}, ended=False)

    return read, write


@pytest.fixture(scope="module", name="exact")
def _exact_findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    folder = tmp_path_factory.mktemp("exact")
    study = _study(folder, shuffles=4)
    reading, writing = _exact(11)
    run = handmade.run(study, folder / "run", reading, words=lambda *_: LENGTH, writing=writing)
    return analyse(study, run)


def _value(findings: Findings, quantity: str, reader: str, entropy: str = "held") -> tuple[float, float, float]:
    f = findings.one(quantity, reader=reader, entropy=entropy)
    assert f is not None, (quantity, reader)
    assert f.estimate is not None
    assert f.low is not None
    assert f.high is not None
    return f.estimate, f.low, f.high


def test_surprisal_explains_the_gap_of_the_surprise_organism(exact: Findings) -> None:
    share, low, high = _value(exact, "share_surprisal", "surprise")
    assert 0.95 < low <= share <= high < 1.05
    _, low, high = _value(exact, "share_authorship", "surprise")
    assert -0.02 < low <= high < 0.02
    # Within 2.7 nats the designed slope is .6, and then 0; over all tokens it is the mean of that.
    assert _value(exact, "slope_surprisal", "surprise")[1] > 0.3
    assert abs(_value(exact, "slope_log_odds", "surprise")[0]) < 0.001


def test_log_odds_explain_the_gap_of_the_belief_organism(exact: Findings) -> None:
    assert _value(exact, "share_log_odds", "belief")[1] > 0.9
    _, low, high = _value(exact, "share_surprisal", "belief")
    assert -0.02 < low <= high < 0.02
    # The designed slope is -.125 where nothing is known, and nearer to 0 the more is.
    _, low, high = _value(exact, "slope_log_odds", "belief")
    assert -0.125 < low <= high < -0.04
    assert abs(_value(exact, "slope_surprisal", "belief")[0]) < 0.002


def test_shuffled_histories_explain_nothing(exact: Findings) -> None:
    for reader, block in (("surprise", "surprisal"), ("belief", "log_odds")):
        found, null = (exact.one(f"{of}part_{block}", reader=reader, entropy="held") for of in ("", "null_"))
        assert found is not None
        assert found.estimate is not None
        assert null is not None
        assert null.low is not None
        assert null.high is not None
        assert max(abs(null.low), abs(null.high)) < 0.15 * abs(found.estimate)


def test_nothing_is_found_where_the_regime_alone_sets_the_entropy(exact: Findings) -> None:
    for block in ("surprisal", "log_odds"):
        assert _value(exact, f"slope_{block}", "regime") == pytest.approx((0, 0, 0), abs=1e-5)
        (missing,) = exact.select(f"share_{block}", reader="regime", entropy="held")
        assert missing.left_out is not None
        assert "no gap" in missing.left_out


def test_the_page_says_which_and_that_it_is_observed(exact: Findings) -> None:
    page = Reaction().page(exact)
    outcomes = {s.where["stage"]: s.outcome for s in page.select("gap")}
    assert outcomes == {"surprise": "surprisal", "belief": "authorship", "regime": "no gap"}
    assert "not what moves it" in page.sections[0].text
    draw(page.charts["reaction"]).draw_without_rendering()


def test_entropy_that_merely_continues_is_a_reaction_only_where_it_is_not_held_equal(tmp_path: Path) -> None:
    """Surprisal is drawn from the entropy, which goes its own way for tens of tokens, whatever the surprisal was."""

    def read(cell: Cell, passage: Passage) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([*cell.author.encode(), int(passage.prompt_id[1:])])
        states = np.cumsum(rng.random(LENGTH) < 0.05) + rng.integers(2)
        entropy = np.where(states % 2, 1.6, 0.4)
        surprisal = rng.exponential(entropy)
        return entropy, surprisal if cell.reader == cell.author else rng.permutation(surprisal)

    study = _study(tmp_path, shuffles=2, stages=["regime"])
    run = handmade.run(study, tmp_path / "run", read, words=lambda *_: LENGTH)
    findings = analyse(study, run)
    own = _value(findings, "slope_surprisal", "regime", "held"), _value(findings, "slope_surprisal", "regime", "free")
    assert abs(own[0][0]) < 0.02
    assert own[1][1] > 0.03


def _read_by_hand(folder: Path, read: handmade.Reading) -> Findings:
    """Of one stage of two models."""
    study = _study(folder, shuffles=2, stages=["regime"])
    return analyse(study, handmade.run(study, folder / "run", read, words=lambda *_: LENGTH))


def _as_any(cell: Cell, passage: Passage) -> tuple[np.ndarray, np.ndarray]:
    """Two models of the same weights: a text is to both what it is to either."""
    rng = np.random.default_rng([*cell.author.encode(), int(passage.prompt_id[1:])])
    surprisal = rng.exponential(size=LENGTH)
    return 1.0 + 0.1 * np.minimum(np.r_[1.0, surprisal[:-1]], 2.0), surprisal


def _as_random_weights(cell: Cell, passage: Passage) -> tuple[np.ndarray, np.ndarray]:
    """Nearly log 100 nats wherever it stands; either model rules out what it rules out."""
    rng = np.random.default_rng([*f"{cell.reader} {cell.author}".encode(), int(passage.prompt_id[1:])])
    return np.log(100) - 0.01 * rng.random(LENGTH), np.log(100) + rng.normal(0, 0.3, LENGTH)


@pytest.mark.parametrize("read", [_as_any, _as_random_weights])
def test_clones_and_random_weights_have_no_gap_to_share(read: handmade.Reading, tmp_path: Path) -> None:
    findings = _read_by_hand(tmp_path, read)
    for reader in ("regime", "stranger-regime", "mean"):
        for what in ("surprisal", "authorship"):
            (share,) = findings.select(f"share_{what}", reader=reader, entropy="held")
            assert share.left_out is not None
        assert abs(_value(findings, "slope_log_odds", reader)[0]) < 0.001
        if read is _as_any:
            assert _value(findings, "overlap", reader)[0] == 1.0
            # The reaction itself is there: .1 up to 2 nats, of surprisals most of which are below.
            assert 0.04 < _value(findings, "slope_surprisal", reader)[0] < 0.1
    (statement,) = Reaction().page(findings).select("gap")
    assert statement.outcome == "no gap"


def test_of_text_that_nobody_wrote_nothing_else_is_said(tmp_path: Path) -> None:
    """Random symbols surprise `surprise`, and that is all; `regime` has no gap to them."""
    study = _study(tmp_path, shuffles=2, stages=["surprise", "regime"])
    reading, writing = _exact(13, strangers_babble=True)
    findings = analyse(study, handmade.run(study, tmp_path / "run", reading, words=lambda *_: LENGTH, writing=writing))
    assert _value(findings, "share_surprisal", "surprise")[0] == pytest.approx(1.0, abs=0.05)
    assert abs(_value(findings, "share_authorship", "surprise")[0]) < 0.02
    outcomes = {s.where["stage"]: s.outcome for s in Reaction().page(findings).select("gap")}
    # The babbler's own entropy is one number, and so the mean over both readers has half the gap.
    assert outcomes == {"surprise": "surprisal", "regime": "no gap"}


def test_gaps_of_opposite_signs_have_no_share_of_their_mean(tmp_path: Path) -> None:
    def read(cell: Cell, passage: Passage) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([*cell.author.encode(), *cell.reader.encode(), int(passage.prompt_id[1:])])
        gap = (0.3 if cell.reader == "regime" else -0.2) * (cell.reader != cell.author)
        return 1.0 + gap + rng.normal(0, 0.1, LENGTH), rng.exponential(size=LENGTH)

    findings = _read_by_hand(tmp_path, read)
    for reader, whole in (("regime", 0.3), ("stranger-regime", -0.2)):
        assert _value(findings, "gap", reader)[0] == pytest.approx(whole, abs=0.03)
        assert _value(findings, "share_authorship", reader)[0] == pytest.approx(1.0, abs=0.1)
    assert not findings.select("share_surprisal", reader="mean").measured
    (statement,) = Reaction().page(findings).select("gap")
    assert statement.outcome == "opposite gaps"


@pytest.mark.parametrize(("half_life", "is_taken_for_authorship"), [(0.5, False), (16, True)])
def test_a_slow_trace_of_surprise_looks_like_authorship_and_the_page_says_so(
    half_life: float, is_taken_for_authorship: bool, tmp_path: Path
) -> None:
    """Entropy follows a running mean of surprisal, and no one's authorship; foreign text is more surprising."""
    keep = 0.5 ** (1 / half_life)

    def read(cell: Cell, passage: Passage) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([*cell.author.encode(), int(passage.prompt_id[1:])])
        noise = rng.normal(0, 0.2, LENGTH)
        surprisal = rng.exponential(size=LENGTH) * (1.0 if cell.reader == cell.author else 1.8)
        trace = [1.0]
        for cost in surprisal[:-1]:
            trace.append(keep * trace[-1] + (1 - keep) * cost)
        return 1.0 + 0.4 * np.array(trace) + noise, surprisal

    findings = _read_by_hand(tmp_path, read)
    (statement,) = Reaction().page(findings).select("gap")
    authorship = [_value(findings, "share_authorship", "mean", entropy)[0] for entropy in ("held", "free")]
    if is_taken_for_authorship:
        assert min(authorship) > 0.4
        assert statement.outcome == "authorship"
        assert "or with surprise over more tokens" in statement.text
    else:
        assert max(map(abs, authorship)) < 0.15
        assert statement.outcome != "authorship"


def test_a_gap_of_neither_is_left_to_whose_text_it_is() -> None:
    rng = np.random.default_rng(3)
    n, author = 4000, np.arange(4000) % 3
    s, log_odds = rng.exponential(size=n), rng.normal(size=n) - author
    outcome = 0.7 + 0.3 * (author > 0) + 0.05 * rng.normal(size=n)
    blocks = {"s": bent(s, [1.0]), "log_odds": bent(log_odds, [0.0])}
    regression = Regression.of(outcome, blocks, author, np.arange(n) // 100, 40)
    found = regression.explained(np.ones((1, 40)))
    assert found.gap[0] == pytest.approx(0.3, abs=0.01)
    assert found.left[0] == pytest.approx(0.3, abs=0.01)
    assert abs(found.parts["s"][0]) + abs(found.parts["log_odds"][0]) < 0.01


def test_the_regression_is_least_squares_on_repeated_prompts() -> None:
    """Against a plain fit with a column for each level and each prompt's rows as often as the weights say."""
    rng = np.random.default_rng(5)
    n, prompt, author, level = 600, rng.integers(6, size=600), rng.integers(3, size=600), rng.integers(4, size=600)
    x, z = rng.exponential(size=n), rng.normal(size=n)
    y = np.sin(x) + 0.5 * z + 0.2 * author + 0.3 * level + rng.normal(size=n)
    blocks = {"x": bent(x, [0.5, 1.5]), "z": bent(z, [])}
    kind = np.where(rng.random(n) < 0.5, level, rng.integers(5, size=n))
    for levels in ((), (level,), (level, kind)):
        regression = Regression.of(y, blocks, author, prompt, 6, levels)
        weight_P = np.ones(6) if levels else np.array([2, 0, 1, 3, 0, 1])
        rows = np.repeat(np.arange(n), weight_P[prompt].astype(int))
        dummies = [author[:, None] == [1, 2], *(of[:, None] == np.unique(of)[1:] for of in levels)]
        full = np.concatenate([np.ones((n, 1)), *dummies, *blocks.values()], axis=1).astype(float)[rows]
        beta, *_ = np.linalg.lstsq(full, y[rows], rcond=None)
        columns = regression.columns()
        found = regression.coefficients(weight_P[None], columns)[0]
        np.testing.assert_allclose(found[1:3], beta[1:3], atol=1e-5)
        np.testing.assert_allclose(found[3:], beta[-4:], atol=1e-5)
        explained = regression.explained(weight_P[None])
        means = [y[rows][author[rows] == a].mean() for a in range(3)]
        assert explained.gap[0] == pytest.approx(np.mean(means[1:]) - means[0])
        parts = sum(part[0] for part in explained.parts.values()) + explained.left[0] + explained.levels[0]
        assert parts == pytest.approx(explained.gap[0])
        assert (abs(explained.levels[0]) < 1e-6) == (not levels)


def test_knots_lie_between_the_values_and_where_they_differ() -> None:
    assert knots_of(np.zeros(9), 4) == []
    mostly_zero = np.concatenate([np.zeros(900), np.linspace(0.1, 5, 100)])
    knots = knots_of(mostly_zero, 4)
    assert len(knots) == 4
    assert 0.5 < knots[0] < knots[-1] < 4.5
    np.testing.assert_allclose(bent([0.0, 2.0, 5.0], [1.0, 4.0]), [[0, 0, 0], [2, 1, 0], [5, 4, 1]])


def _tokens(passage: list[int], surprisal: list[float], **changes: object) -> Tokens:
    n, zero = len(passage), np.zeros(len(passage))
    position = np.concatenate([np.arange(passage.count(p)) for p in dict.fromkeys(passage)])
    columns = {
        "passage": np.array(passage),
        "position": position,
        "surprisal": np.array(surprisal),
        "entropy": zero,
        "varentropy": zero,
        "is_end": np.zeros(n, bool),
        "token_id": np.arange(n),
    }
    return Tokens(**columns | changes)  # pyright: ignore[reportArgumentType]


def test_log_odds_are_those_of_the_whole_text_so_far() -> None:
    tokens = _tokens([0, 0, 0, 1, 1], [1, 2, 0, 4, 1])
    others_ON = np.array([[2.0, 2.0, 2.0, 1.0, 9.0], [1.0, 4.0, 2.0, 3.0, 9.0]])
    np.testing.assert_allclose(log_odds(tokens, others_ON, "mean"), [0.5, 0, -1, -2, 4])
    mixed = -np.log(np.exp(-others_ON).mean(axis=0)) - [1, 3, 3, 4, 5]
    np.testing.assert_allclose(log_odds(tokens, others_ON, "mixture"), mixed)
    one = log_odds(tokens, others_ON[:1] + 800, "mixture")  # the likelihood itself would be 0
    np.testing.assert_allclose(one, [801, 799, 799, 797, 804])


def test_readers_with_other_tokens_are_aligned_by_the_characters_they_have_read() -> None:
    """ "the fox." as the, fox. and the end, beside t, he, fox, . and the end; then another passage."""
    reader = _tokens([0, 0, 0, 1], [1, 1, 1, 1], is_end=np.array([False, False, True, False]))
    other = _tokens([0] * 5 + [1], [1, 2, 4, 8, 16, 32], is_end=np.array([False] * 4 + [True, False]))
    ends = [np.array([3, 8, 8]), np.array([4])], [np.array([1, 3, 7, 8, 8]), np.array([8])]
    running = np.array([1.0, 3, 7, 15, 31, 32])
    # In the second passage the reader has read 4 of the 8 characters of the other's first token.
    np.testing.assert_allclose(at_ends(reader, ends[0], other, ends[1], running), [3, 15, 15, 16])


def _rows(tokens: dict[str, Tokens], ends: dict[str, list[np.ndarray]], lags: int) -> Rows:
    """Rows of `a` on its own texts, against `b`."""
    n = len(next(iter(ends.values())))
    passages = [SimpleNamespace(id=f"p{i}") for i in range(n)]

    def measured(name: str) -> Any:
        of = ends[name.partition(".")[0]]
        columns = {"author": ["a"] * n, "passage": [p.id for p in passages], "ends": [end.tolist() for end in of]}
        return {key: SimpleNamespace(to_pylist=lambda column=column: column) for key, column in columns.items()}

    data: Any = SimpleNamespace(
        key=lambda reader, author, framing: reader,
        tokens=lambda key: tokens[key],
        passages=lambda author: passages,
        prompt_codes=lambda author: np.arange(n),
        measured=measured,
    )
    return rows_of(data, "a", "a", ["b"], "assistant", lags, "mixture", 0)


@pytest.mark.parametrize("pairs", [False, True])
def test_a_row_has_what_the_processes_say_of_its_token_and_of_the_next(pairs: bool) -> None:
    """In float64 from the processes; the other author's tokens are the same, or two symbols each."""
    n, length, lags = 3, 9, 2
    own, other = symbols.process("belief", 17), symbols.process("stranger", 17)
    ids_BT = symbols.draw(own, np.arange(n) % 2, length, np.random.default_rng(17))
    truth, foreign = symbols.read(own, ids_BT), symbols.read(other, ids_BT)
    cost = foreign.surprisal[:, 1:]
    columns = {
        "a": (truth.surprisal[:, 1:], truth.entropy[:, :-1], np.arange(1, length + 1), ids_BT[:, 1:]),
        "b": (cost, foreign.entropy[:, :-1], np.arange(1, length + 1), ids_BT[:, 1:]),
    }
    known_BT = np.cumsum(cost, axis=1)
    if pairs:
        starts = np.arange(0, length, 2)
        end = np.minimum(starts + 2, length)
        pair = np.add.reduceat(cost, starts, axis=1)
        columns["b"] = (pair, foreign.entropy[:, starts], end, ids_BT[:, 1 + starts])
        # Half a pair counts half.
        spread = np.repeat(pair / (end - starts), end - starts, axis=1)
        known_BT = np.cumsum(spread, axis=1)
    tokens, ends = {}, {}
    for name, (surprisal, entropy, end, token) in columns.items():
        passage = np.repeat(np.arange(n), len(end))
        more = {"entropy": entropy.ravel(), "token_id": token.ravel()}
        tokens[name] = _tokens(passage.tolist(), surprisal.ravel().tolist(), **more)
        ends[name] = [end] * n
    rows = _rows(tokens, ends, lags)
    # x_t is symbol t of the text, from lags + 1 to the last but one; place t of `truth` is what is known after it.
    at = slice(lags + 1, length)
    np.testing.assert_allclose(rows.outcome, truth.entropy[:, at].ravel(), rtol=1e-12)
    np.testing.assert_allclose(rows.entropy, truth.entropy[:, lags : length - 1].ravel(), rtol=1e-12)
    np.testing.assert_allclose(rows.surprisal, truth.surprisal[:, at].ravel(), rtol=1e-12)
    for lag in range(1, lags + 1):
        earlier = truth.surprisal[:, lags + 1 - lag : length - lag]
        np.testing.assert_allclose(rows.earlier[:, lag - 1], earlier.ravel(), rtol=1e-12)
    log_odds_BT = known_BT - np.cumsum(truth.surprisal[:, 1:], axis=1)
    np.testing.assert_allclose(rows.log_odds, log_odds_BT[:, lags : length - 1].ravel(), atol=1e-9)
    if not pairs:
        np.testing.assert_allclose(rows.log_odds, truth.log_odds[:, at].ravel(), atol=1e-9)
    assert (rows.token == ids_BT[:, at].ravel()).all()
    assert (rows.position == np.tile(np.arange(lags, length - 1), n)).all()
    assert (rows.prompt == np.repeat(np.arange(n), length - 1 - lags)).all()


def test_costs_at_other_ends_are_those_of_the_characters_read() -> None:
    """Against a twin that shares the cost of each token among its characters, on random cuts of random texts."""
    rng = np.random.default_rng(23)
    texts = rng.integers(5, 40, size=6)

    def cut() -> list[np.ndarray]:
        return [np.unique(np.r_[rng.integers(1, n, size=rng.integers(1, n)), n]) for n in texts]

    ends, other_ends = cut(), cut()
    passage = np.repeat(np.arange(6), [len(end) for end in ends]).tolist()
    other_passage = np.repeat(np.arange(6), [len(end) for end in other_ends]).tolist()
    cost = [rng.exponential(size=len(end)) for end in other_ends]
    reader = _tokens(passage, [1.0] * len(passage))
    other = _tokens(other_passage, np.concatenate(cost).tolist())
    found = at_ends(reader, ends, other, other_ends, np.concatenate([np.cumsum(of) for of in cost]))
    twin = []
    for end, other_end, of in zip(ends, other_ends, cost, strict=True):
        by_character = np.concatenate(
            [np.full(w, c / w) for c, w in zip(of, np.diff(np.r_[0, other_end]), strict=True)]
        )
        twin += [by_character[:e].sum() for e in end]
    np.testing.assert_allclose(found, twin, rtol=1e-9)


def test_token_ends_of_two_tokenizers_end_together() -> None:
    passage = Passage("x/0", "x", (), "the old red fox walked", "w", ended=False)
    ends = []
    for tokenizer in (tiny.word_tokenizer(), tiny.byte_tokenizer()):
        reader = Reader(tiny.llama(len(tokenizer)), tokenizer, name="r")
        (found,) = token_ends(reader, [passage], "none")
        assert found[-1] == len(passage.response)
        ends.append({int(end) for end in found})
    assert ends[0] >= {3, 7, 11, 15, 22}
    assert ends[0] & ends[1] >= {22}
