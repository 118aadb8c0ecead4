"""Surprisal less entropy: 0 on text drawn from the reader, and what its interval is worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from enaction import zoo
from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.analysis.ownness import add_ownness, is_drawn
from enaction.experiments import analyse, pages, plan
from enaction.findings import Finding, Findings
from enaction.passages import Passage
from enaction.running import run_study
from enaction.stats import Estimate
from enaction.stats.rates import cluster_rate
from enaction.stats.student import t_quantile
from enaction.study.config import Study
from enaction.study.store import Cell
from tests import handmade

FAMILIES = ("ash", "birch", "cedar")
# Surprisal less entropy that is planted into the text of other authors, of a greedy one, and of the world, nats.
FOREIGN, GREEDY, OF_WORLD = 0.8, -0.6, 0.5


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 11, 12, 107, 2000])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_quantiles_are_those_of_student(degrees: int, level: float) -> None:
    assert t_quantile(degrees, level) == pytest.approx(scipy_stats.t.ppf((1 + level) / 2, degrees), rel=1e-10)


@pytest.mark.parametrize(("degrees", "level"), [(0, 0.95), (5, 1.0), (5, 0.0)])
def test_a_quantile_that_does_not_exist_is_refused(degrees: int, level: float) -> None:
    with pytest.raises(ValueError, match="degrees of freedom"):
        t_quantile(degrees, level)


def test_with_equal_counts_the_rate_has_the_t_interval_of_a_mean() -> None:
    total = np.random.default_rng(1).normal(3, 2, 14)
    rate = cluster_rate(total, np.full(14, 5))
    low, high = scipy_stats.t.interval(0.95, 13, total.mean() / 5, scipy_stats.sem(total) / 5)
    assert [rate.value, rate.low, rate.high] == pytest.approx([total.mean() / 5, low, high])


def test_clusters_count_by_their_tokens_and_empty_ones_not_at_all() -> None:
    rate = cluster_rate([10.0, 1.0, 0.0], [100, 1, 0])
    assert rate.value == pytest.approx(11 / 101)
    deviations = np.array([10 - 100 * 11 / 101, 1 - 11 / 101])
    half = scipy_stats.t.ppf(0.975, 1) * np.sqrt(2 * (deviations**2).sum()) / 101
    assert [rate.low, rate.high] == pytest.approx([11 / 101 - half, 11 / 101 + half])


def test_without_spread_to_judge_by_there_is_no_interval() -> None:
    for rate in (cluster_rate([2.0], [4]), cluster_rate([np.inf, 1.0], [4, 4]), cluster_rate([0.0], [0])):
        assert np.isnan(rate.low)
        assert np.isnan(rate.high)
    assert cluster_rate([2.0], [4]).value == 0.5


def test_predicted_variance_widens_an_interval_and_never_narrows_it() -> None:
    alone = cluster_rate([1.0, 2.0, 3.0], [10, 10, 10])
    wide = cluster_rate([1.0, 2.0, 3.0], [10, 10, 10], [400.0, 400.0, 400.0])
    assert wide.high - wide.value == pytest.approx(1.96 * np.sqrt(1200) / 30, rel=1e-3)
    assert cluster_rate([1.0, 2.0, 3.0], [10, 10, 10], 1e-6) == alone


def _drawn(rng: np.random.Generator, rare: float, n_passages: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Text of a reader that expects every token but a rare one, whose passages end at the first rare token or after 60.

    Returns:
        Sum of surprisal less entropy, sum of varentropy, and number of tokens of each passage.
    """
    p = np.array([1 - rare, rare])
    surprisal, entropy = -np.log(p), float(-(p * np.log(p)).sum())
    variance = float((p * (surprisal - entropy) ** 2).sum())
    first_rare = rng.geometric(rare, n_passages)
    count, ended = np.minimum(first_rare, 60), first_rare <= 60
    total = count * (surprisal[0] - entropy) + ended * (surprisal[1] - surprisal[0])
    return total, variance * count, count


def test_sums_over_tokens_are_0_on_drawn_text_where_means_of_passages_are_not() -> None:
    total, _, count = _drawn(np.random.default_rng(2), 0.05, 200_000)
    spread = total.std() / np.sqrt(len(total))
    assert abs(total.mean()) < 4 * spread  # a martingale: 0 within sampling error
    of_passages = total / count
    assert of_passages.mean() > 20 * of_passages.std() / np.sqrt(len(of_passages))  # short passages weigh too much


def test_the_interval_contains_0_on_drawn_text_where_few_tokens_carry_the_variance() -> None:
    rng = np.random.default_rng(3)
    hits, without = [], []
    for _ in range(600):
        total, variance, count = _drawn(rng, 0.001, 12)
        hits.append(_contains_0(cluster_rate(total, count, variance)))
        without.append(_contains_0(cluster_rate(total, count)))
    assert np.mean(hits) >= 0.93
    assert np.mean(without) < 0.8  # what the predicted variance is for


def _contains_0(rate: Estimate) -> bool:
    return bool(rate.low <= 0 <= rate.high)


def _excess(cell: Cell) -> float:
    """What is planted into a cell: 0 on own text in the assistant's turn."""
    if cell.author == "world":
        return OF_WORLD
    if cell.author == cell.reader:
        return 0.0 if cell.framing == "assistant" else 0.3
    return GREEDY if cell.author == "cedar-rl" else FOREIGN


def _read(cell: Cell, passage: Passage) -> tuple[np.ndarray, np.ndarray]:
    n = len(passage.response.split())
    entropy = np.full(n, 1.2)
    noise = np.random.default_rng([len(cell.reader), int(passage.prompt_id[1:])]).normal(0, 0.1, n)
    return entropy, entropy + _excess(cell) + noise - noise.mean()


@pytest.fixture(scope="module", name="data")
def _data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("ownness")
    study = handmade.study(folder, {"matrix": {}}, prompts=40, stages=("rl",)).model_copy(update={"world_text": True})
    run = handmade.run(study, folder / "run", _read, words=lambda _, prompt: 20 + int(prompt[1:]))
    return Data(study, run, plan(study))


@pytest.fixture(scope="module", name="findings")
def _findings(data: Data) -> Findings:
    return analyse(data.study, data.run)


def test_ownness_is_the_sum_over_all_tokens_divided_by_their_number(data: Data, findings: Findings) -> None:
    for cell in data.cells:
        table = data.run.tokens(cell).to_pandas()
        found = _one(findings, cell)
        assert found.estimate == pytest.approx((table.surprisal - table.entropy).sum() / len(table), abs=1e-6)
        assert found.estimate == pytest.approx(_excess(cell), abs=1e-6)
        assert found.null == 0
        assert found.n == 40


def test_on_own_text_ownness_is_the_gap_of_the_identity(findings: Findings) -> None:
    for gap in findings.select("identity_gap"):
        own = _one(findings, Cell(gap.where["reader"], gap.where["reader"], gap.where["framing"]))
        assert own.estimate == pytest.approx(gap.estimate, abs=1e-9)
        assert own.low is not None
        assert gap.low is not None
        assert own.low <= gap.low + 1e-9  # never narrower than the predictable variance


def test_own_text_in_another_framing_is_said_not_to_be_drawn(data: Data, findings: Findings) -> None:
    own = {framing: Cell("ash-rl", "ash-rl", framing) for framing in ("assistant", "user")}
    assert not _one(findings, own["assistant"]).notes
    assert any("sampled in framing assistant" in note for note in _one(findings, own["user"]).notes)
    assert is_drawn(data, own["assistant"])
    assert not is_drawn(data, own["user"])
    assert not is_drawn(data, Cell("ash-rl", "birch-rl", "assistant"))


def test_own_text_sampled_at_another_temperature_is_said_not_to_be_drawn(data: Data) -> None:
    cooler = data.study.model_copy(update={"sampling": data.study.sampling.model_copy(update={"temperature": 0.5})})
    ledger = Ledger.of(Data(cooler, data.run, data.plan), "matrix")
    found = add_ownness(ledger, Cell("ash-rl", "ash-rl", "assistant"), arm="cool")
    assert any("temperature 0.5" in note for note in found.notes)
    assert found.where["arm"] == "cool"


def test_ownness_of_some_prompts_is_theirs_alone(data: Data) -> None:
    cell = Cell("ash-rl", "birch-rl", "assistant")
    some = data.subset(data.prompts[:5])
    found = add_ownness(Ledger.of(data, "matrix").at(prompts=some), cell)
    table = data.run.tokens(cell).to_pandas()
    table = table[table.prompt_id.isin([prompt.id for prompt in data.prompts[:5]])]
    assert found.n == 5
    assert found.estimate == pytest.approx((table.surprisal - table.entropy).mean(), abs=1e-6)


def test_greedy_text_is_not_counted_as_told_apart(findings: Findings) -> None:
    share = {f.where["reader"]: f for f in findings.select("told_apart_share", framing="assistant")}
    assert [round(share[f"{family}-rl"].n * (share[f"{family}-rl"].estimate or 0)) for family in FAMILIES] == [2, 2, 3]
    assert {f.n for f in share.values()} == {3}
    assert not share["ash-rl"].notes
    assert findings.select("told_apart_share", framing="user", reader="ash-rl")[0].notes


def test_the_page_says_both_quantities(data: Data, findings: Findings) -> None:
    page = pages(data.study, findings)["matrix"]
    (said,) = page.select("ownness")
    assert "0 lies inside every interval" in said.text
    assert "above 0 in 7 of 9 cells: some of it is told" in said.text
    assert said.verdict == ""
    brief = next(grid for grid in page.grids if "familiarity" in grid.title)
    assert "authorship: surprisal less entropy" in brief.title
    rows = {(row[0].text, row[1].text): [cell.text for cell in row[2:]] for row in brief.cells}
    assert rows["ash-rl", "authorship"] == ["0.000", "0.800*", "-0.600*", "0.500*"]
    assert rows["ash-rl", "familiarity"][1] == "1.200 / 2.000"
    (table,) = [grid for grid in page.grids if "authors above 0" in [cell.text for cell in grid.header_cells]]
    ash, _, cedar = table.cells
    assert [cell.look for cell in ash[2:5]] == ["", "strong", "strong"]
    assert [ash[-1].text, cedar[-1].text] == ["2 of 3", "all 3"]
    assert ash[3].text.startswith("-0.600 [")
    assert "familiarity with a distribution of text" in page.remark
    assert "ownness" in page.charts


def test_the_sentence_calls_text_told_apart_only_where_every_interval_says_so(data: Data, findings: Findings) -> None:
    def told(**change: float) -> str:
        changed = [
            replace(f, **change) if f.quantity == "ownness" and f.where["author"] != f.where["reader"] else f
            for f in findings
        ]
        shares = [
            replace(f, estimate=float(change["low"] > 0)) if f.quantity == "told_apart_share" else f for f in changed
        ]
        (said,) = pages(data.study, Findings(shares))["matrix"].select("ownness")
        return f"{said.verdict}: {said.text}"

    assert told(estimate=0.5, low=0.4, high=0.6).startswith("effect")
    assert "all 9 cells: all of it is told" in told(estimate=0.5, low=0.4, high=0.6)
    nothing = told(estimate=0.0, low=-0.1, high=0.1)
    assert nothing.startswith(": ")
    assert "none of 9 cells: none of it is told" in nothing


def _one(findings: Findings, cell: Cell) -> Finding:
    (found,) = findings.select("ownness", **cell._asdict())
    return found


def test_real_readers_tell_a_strangers_text_and_not_that_of_a_copy(tmp_path: Path) -> None:
    """At 0 nothing is proved: a rounded copy takes the author's text for its own; one of random weights does not."""
    config = AutoConfig.from_pretrained(zoo.path("ash-rl"), initializer_range=0.02)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "random")
    AutoTokenizer.from_pretrained(zoo.path("ash-rl")).save_pretrained(tmp_path / "random")
    names = {"author": "zoo:ash-rl", "copy": "zoo:ash-rl-int8", "stranger": "zoo:birch-rl"}
    models = {name: {"model": model, "family": name} for name, model in names.items()}
    models["random"] = {"model": str(tmp_path / "random"), "family": "random"}
    study = Study.model_validate(
        {"name": "o", "models": models, "n_prompts": 16, "framings": ["assistant"], "resamples": 100,
         "sampling": {"per_prompt": 2, "max_new_tokens": 110}}
    )  # fmt: skip
    findings = analyse(study, run_study(study, tmp_path / "run"))
    ownness = {f.where["reader"]: f for f in findings.select("ownness", author="author")}
    author, copy = ownness["author"], ownness["copy"]
    assert author.low is not None
    assert author.low < 0 < (author.high or 0.0)
    assert copy.estimate == pytest.approx(author.estimate, abs=0.01)
    for reader, least in (("random", 0.05), ("stranger", 0.3)):
        assert (ownness[reader].low or 0.0) > least, reader
