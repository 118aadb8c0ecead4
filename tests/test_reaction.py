"""Reaction: the designed answer on organisms, exact and trained, and nothing on nulls; sums and alignment by hand."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import handmade
import numpy as np
import pytest
import tiny

from enaction.analysis.data import Tokens
from enaction.experiments import analyse
from enaction.experiments.reaction import Reaction
from enaction.experiments.reaction.rows import at_ends, log_odds
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


def _exact(seed: int) -> tuple[handmade.Reading, handmade.Writing]:
    """What the processes of a seed write and measure, without a model."""

    @cache
    def process(name: str) -> symbols.Process:
        return symbols.process(name.partition("-")[0], seed)

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
