"""Verbal reports: questions as ids, planted tables, and organisms whose report has a designed route."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import tiny
from families import FAMILIES, TOKENIZERS

from enaction import zoo
from enaction.analysis.data import Data
from enaction.analysis.ledger import Ledger
from enaction.errors import FramingError, StudyError
from enaction.experiments.verbal import Verbal, analysis, injection, route
from enaction.experiments.verbal.analysis import Texts
from enaction.experiments.verbal.asking import answers, ask, report_of, reports, table_of
from enaction.experiments.verbal.cells import CHAT_WORDING, WORLD_WORDING
from enaction.experiments.verbal.cells import SCHEMA as REPORTS
from enaction.experiments.verbal.cells import measure as measure_reports
from enaction.experiments.verbal.page import page
from enaction.findings import Findings
from enaction.framing import frame, render
from enaction.passages import Message, Passage, Prompt
from enaction.reader import Reader
from enaction.reader.sources.zoo import PREFIX
from enaction.sampling import sample
from enaction.stats.bins import binned
from enaction.study.planning import Plan
from enaction.study.store import Run
from tests import handmade

QUESTION = WORLD_WORDING.question


@cache
def _reader(name: str) -> Reader:
    return Reader.load(f"{PREFIX}{name}", name=name)


def _passages(name: str, prompts: Sequence[Prompt], seed: int = 0, **settings: Any) -> list[Passage]:
    return sample(_reader(name), prompts, max_new_tokens=110, seed=seed, **settings)


# --- questions


def test_the_reply_keeps_its_ids_and_the_question_is_what_the_template_shows() -> None:
    reader = _reader("organism-reporter")
    passage = _passages("organism-origin", zoo.prompts()[:1])[0]
    asked = ask(reader.tokenizer, passage, QUESTION, cut=20)
    framed = frame(reader.tokenizer, passage, "assistant")
    assert passage.token_ids is not None
    start, stop = asked.reply
    assert asked.framed.ids[start:stop] == passage.token_ids[:20]
    assert asked.framed.ids[:start] == framed.ids[: framed.start]
    assert asked.framed.stop == asked.framed.start + 1 == len(asked.framed.ids)
    reply = str(reader.tokenizer.decode(list(passage.token_ids[:20])))
    turns = (*passage.prompt, Message(role="assistant", content=reply), Message(role="user", content=QUESTION))
    whole = reader.tokenizer.encode(
        render(reader.tokenizer, turns, add_generation_prompt=True), add_special_tokens=False
    )
    assert list(asked.framed.ids[:-1]) == whole


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("name", FAMILIES)
def test_what_follows_the_reply_is_what_the_template_has_there(name: str, kind: str) -> None:
    """Of every family the end of the turn, the question and the generation prompt, as one tokenisation cuts them."""
    tokenizer = TOKENIZERS[kind](FAMILIES[name], bos=False)
    question = "is it your story? Answer yes or no."
    passage = tiny.passage("the fox walked over the river", "tell me about the old garden")
    asked = ask(tokenizer, passage, question)
    turns = (*passage.prompt, Message(role="assistant", content=passage.response), *tiny.user(question))
    whole = tokenizer(render(tokenizer, turns, add_generation_prompt=True), add_special_tokens=False)["input_ids"]
    after = asked.framed.ids[asked.reply[1] : -1]
    assert list(after) == list(whole)[-len(after) :]
    shown = str(tokenizer.decode(list(after)))
    assert " ".join(shown.split()).count(question) == 1
    # The reply ends right before: nothing lies between it and the end of its turn.
    assert str(tokenizer.decode(list(whole)[: -len(after)])).rstrip().endswith("river")


def test_a_template_that_hides_the_question_is_refused() -> None:
    first = (
        "{% for m in messages %}{% if loop.index0 < 2 %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    with pytest.raises(FramingError, match="does not show message 3"):
        ask(tiny.word_tokenizer(first), tiny.passage("the old fox"), "why")


def test_log_odds_gather_every_way_of_writing_an_answer() -> None:
    tokenizer = _reader("organism-reporter").tokenizer
    words = answers(tokenizer, "yes", "no")
    vocabulary = tokenizer.get_vocab()
    assert words.yes == (vocabulary["yes"],)
    logprob = np.log(np.array([[0.1, 0.2, 0.3, 0.4]]))
    got = report_of(logprob, type(words)((0, 1), (3,)))
    assert got.log_odds == pytest.approx(np.log(0.3 / 0.4))
    assert got.mass == pytest.approx(0.7)
    with pytest.raises(StudyError, match="no single token"):
        answers(tokenizer, "yes", "perhaps")


def test_reports_are_read_from_the_models_own_logits() -> None:
    import torch

    reader = _reader("organism-reporter")
    passage = _passages("organism-origin", zoo.prompts()[:1])[0]
    asked, words = ask(reader.tokenizer, passage, QUESTION, cut=30), answers(reader.tokenizer, "yes", "no")
    with torch.no_grad():
        logits = reader.model(input_ids=torch.tensor([asked.framed.ids[:-1]])).logits[0, -1].double()
    expected = float(logits[words.yes[0]] - logits[words.no[0]])
    assert reports(reader, [asked], words).log_odds[0] == pytest.approx(expected, abs=1e-4)


# --- too little text


def test_without_pairs_or_another_prompt_there_are_no_rows() -> None:
    reader, prompts = _reader("organism-reporter"), zoo.prompts()[:2]
    own = _passages("organism-reporter", prompts)
    shared: dict[str, Any] = {"question": QUESTION, "words": answers(reader.tokenizer, "yes", "no")}
    shared["rng"] = np.random.default_rng(0)
    assert route.measure(reader, own, [], own, **shared).num_rows == 0
    assert injection.measure(reader, own, prompts, unrelated="why?", **shared).num_rows == 0
    with pytest.raises(StudyError, match="too few for directions"):
        route.measure(reader, own, own, [], **shared)


def test_directions_are_fitted_on_the_states_of_the_very_words_whose_surprise_they_have() -> None:
    """Against hooks on the projections, one text at a time, and surprisal by float64."""
    import torch

    reader = _reader("organism-origin")
    own = _passages("organism-origin", zoo.prompts()[:12])
    fit = route.fit_states(reader, own, 8)
    values, surprisal = [], []
    projection = cast(Any, reader.model).model.layers[1].self_attn.v_proj
    for framed in (frame(reader.tokenizer, p, "assistant") for p in own):
        held: list[torch.Tensor] = []
        handle = projection.register_forward_hook(lambda module, given, out, held=held: held.append(out[0]))
        with torch.no_grad():
            logits = reader.model(input_ids=torch.tensor([framed.ids])).logits[0].double()
        handle.remove()
        words = range(framed.start + 1, framed.stop - 1)
        values.append(held[0][words.start : words.stop].numpy())
        surprisal += [-float(logits[t - 1].log_softmax(-1)[framed.ids[t]]) for t in words]
    (spot,) = (spot for spot in fit.states if spot.layer == 2 and spot.part == "value")
    np.testing.assert_allclose(fit.states[spot], np.concatenate(values), atol=1e-4)
    assert set(fit.keys) == set(range(8))
    for key in range(8):  # levels of surprise among words that the model was equally sure of before
        of = np.array(surprisal)[fit.keys == key]
        expected = binned(of, np.quantile(of, [0.25, 0.5, 0.75]))
        assert (fit.bins[fit.keys == key] != expected).sum() <= 3  # beside an edge, in float32


# --- planted tables


def _one(found: Findings, quantity: str, **where: Any) -> tuple[float, float, float]:
    """Estimate and interval of the one finding; NaN for what it has not."""
    finding = found.one(quantity, **where)
    assert finding is not None
    estimate, low, high = (np.nan if v is None else v for v in (finding.estimate, finding.low, finding.high))
    return estimate, low, high


def _data(folder: Path, n: int = 24) -> Data:
    study = handmade.study(folder, {"verbal": {}}, prompts=n, stages=("rl",))
    return Data(study, Run(folder / "run"), Plan({}, []), study.load_prompts())


def _reports_table(
    own: float, foreign: float, *, swap: float = -1.0, unrelated: float = 0.0, mass: float = 0.9
) -> pa.Table:
    """Log-odds of 24 own and 24 foreign texts; the swap and an unrelated question multiply them."""
    rng, rows = np.random.default_rng(0), []
    for author, mean in (("ash-rl", own), ("birch-rl", foreign)):
        for i in range(24):
            value = mean + rng.normal(0, 0.5)
            for question, of in (("asked", value), ("swapped", swap * value), ("unrelated", unrelated * value)):
                rows.append((author, f"p{i}", f"p{i}/0", question, of, mass, "yes" if question == "asked" else ""))
    return table_of(rows, REPORTS)


def _findings(folder: Path, table: pa.Table) -> Findings:
    ledger = Ledger.of(_data(folder), "verbal").at(reader="ash-rl")
    analysis.analyse_reports(ledger, table, Texts("ash-rl", {"birch-rl": "foreign"}), stream=(0,))
    return Findings(ledger.findings)


def test_a_report_is_told_from_a_habit_of_answering(tmp_path: Path) -> None:
    found = _findings(tmp_path, _reports_table(2.0, -2.0))
    assert _one(found, "report_auroc")[0] == pytest.approx(1)
    assert _one(found, "swapped_gap")[2] < 0
    assert _one(found, "shuffled_gap_share")[0] < 0.5
    sentence = page(found, "", "").sentences[0]
    assert "The swapped question turns the gap" in sentence
    habit = _findings(tmp_path, _reports_table(2.0, -2.0, swap=1.0, unrelated=1.0))
    assert "The transcript sets the answer, not the question." in page(habit, "", "").sentences[0]


def test_words_that_the_model_would_not_say_are_no_report(tmp_path: Path) -> None:
    """However well they tell texts apart: no AUROC is written down, and no gap."""
    found = _findings(tmp_path, _reports_table(2.0, -2.0, mass=0.01))
    assert {f.quantity for f in found.measured} == {"answer_mass", "sampled_answers"}
    (left,) = found.select("report_auroc")
    assert left.left_out is not None
    assert "probability together is 0.010" in left.left_out
    shown = page(found, "", "")
    assert [s.verdict for s in shown.statements] == ["left out"]
    assert "are no report" in shown.sentences[0]
    assert not shown.charts
    assert not any(section.grids for section in shown.sections)


def test_a_question_that_is_not_answered_has_no_gap(tmp_path: Path) -> None:
    """Log-odds of yes to an unrelated question that is answered with other words are no habit of saying yes."""
    habit = _reports_table(2.0, -2.0, unrelated=1.0)
    rows = [row | {"mass": 0.01 if row["question"] == "unrelated" else 0.9} for row in habit.to_pylist()]
    found = _findings(tmp_path, pa.Table.from_pylist(rows, schema=REPORTS))
    assert found.select("unrelated_gap")[0].left_out
    assert _one(found, "swapped_gap")[2] < 0
    assert "The swapped question turns the gap" in page(found, "", "").sentences[0]


def test_few_texts_show_neither_style_nor_intention(tmp_path: Path) -> None:
    """Own text under another prompt is told as own text is: eight texts cannot show that, twenty a prompt can."""
    rng = np.random.default_rng(1)
    levels = {"ash-rl": 2.0, "birch-rl": -2.0, "ash-rl.moved": 2.0}
    for n_prompts, each, words in ((8, 1, "too few texts to say"), (24, 20, "of the text's style")):
        rows = [
            (author, f"p{i}", f"p{i}/{k}", question, sign * (level + rng.normal(0, 0.5)), 0.9, "")
            for author, level in levels.items()
            for i in range(n_prompts)
            for k in range(each)
            for question, sign in (("asked", 1), ("swapped", -1))
        ]
        ledger = Ledger.of(_data(tmp_path), "verbal").at(reader="ash-rl")
        kinds = {"birch-rl": "foreign", "ash-rl.moved": "moved"}
        analysis.analyse_reports(ledger, table_of(rows, REPORTS), Texts("ash-rl", kinds), stream=(0,))
        assert words in page(Findings(ledger.findings), "", "").sentences[1]


def test_a_result_about_an_organism_says_that_it_was_taught(tmp_path: Path) -> None:
    ledger = Ledger.of(_data(tmp_path), "verbal").at(reader="ash-rl", notes=[analysis.TAUGHT])
    table, texts = _reports_table(2.0, -2.0), Texts("ash-rl", {"birch-rl": "foreign"})
    analysis.analyse_reports(ledger, table, texts, stream=(0,))
    analysis.analyse_outsider(ledger, table, table, texts, "cedar-rl")
    analysis.analyse_route(ledger, _route_table(0.9, 0.9, (0, 0.1)), rank=1)
    assert all(analysis.TAUGHT in f.notes for f in ledger.findings)
    statements = page(Findings(ledger.findings), "", "").statements
    assert len(statements) == 3
    assert all("taught" in s.subject for s in statements)


def test_no_difference_has_an_interval_that_holds_one_half(tmp_path: Path) -> None:
    found = _findings(tmp_path, _reports_table(0.3, 0.3))
    _, low, high = _one(found, "report_auroc")
    assert low < 0.5 < high
    assert found.select("shuffled_gap_share")[0].left_out == "the interval of the gap holds 0"


def test_an_outsider_that_knows_as_much_leaves_no_privileged_access(tmp_path: Path) -> None:
    ledger = Ledger.of(_data(tmp_path), "verbal").at(reader="ash-rl")
    table = _reports_table(2.0, -2.0)
    analysis.analyse_outsider(ledger, table, table, Texts("ash-rl", {"birch-rl": "foreign"}), "cedar-rl")
    found = Findings(ledger.findings)
    assert _one(found, "privileged_access") == (0, 0, 0)
    assert "no privileged access" in page(found, "", "").sentences[0]


def test_an_outsider_that_does_not_answer_is_no_measure_of_access(tmp_path: Path) -> None:
    ledger = Ledger.of(_data(tmp_path), "verbal").at(reader="ash-rl")
    table, silent = _reports_table(2.0, -2.0), _reports_table(-2.0, 2.0, mass=0.01)
    analysis.analyse_outsider(ledger, table, silent, Texts("ash-rl", {"birch-rl": "foreign"}), "cedar-rl")
    found = Findings(ledger.findings)
    assert not found.select("privileged_access").measured
    assert "cedar-rl does not answer" in page(found, "", "").sentences[0]


def _route_table(
    inside: float,
    back: float,
    drawn: tuple[float, float],
    *,
    error: float = 0.0,
    whole: float = 10.0,
    noise: float = 0.0,
    mass: float = 0.9,
    held: float = 0.2,
) -> pa.Table:
    """24 pairs of clean log-odds 5 and -5; shares of the subspace both ways, two random ones in turn.

    Args:
        error: of the whole patch, nats.
        whole: effect of the whole patch, nats, with noise of this size over pairs.
        mass: of the two answers.
        held: energy of random subspaces, where that of surprise has .2.
    """
    rng, rows = np.random.default_rng(0), []
    half = whole / 2 + rng.normal(0, noise, 24)
    level = {"own<-foreign": (half, -half), "foreign<-own": (-half, half)}
    share = {"own<-foreign": inside, "foreign<-own": back}
    for direction, (clean, donor) in level.items():
        other = share["foreign<-own" if direction == "own<-foreign" else "own<-foreign"]
        effect = donor - clean
        plan = [("clean", 0.0, 0, 0.0), ("full", 1.0, 0, 1.0), *(("dose", d, 0, d) for d in route.DOSES)]
        plan += [("in", 0.0, 0, share[direction]), ("complement", 0.0, 0, 1 - other), ("shuffled", 0.0, 0, 0.1)]
        plan += [("random", 0.0, k, drawn[k % 2]) for k in range(10)]
        for treatment, amount, draw, of in plan:
            for i in range(24):
                value = clean[i] + of * effect[i] + (error if treatment == "full" else 0.0)
                value += rng.normal(0, 0.05) if treatment in ("random", "shuffled", "dose") else 0.0
                energy = held if treatment == "random" else 0.2
                rows.append((f"p{i}", direction, treatment, amount, draw, value, mass, energy))
    return table_of(rows, route.SCHEMA)


@pytest.mark.parametrize(
    ("inside", "back", "drawn", "outcome"),
    [
        (0.9, 0.95, (0.0, 0.1), "by surprise"),
        (0.0, 0.02, (-0.05, 0.6), "not by surprise"),
        (0.42, 0.2, (0.15, 0.45), "no more than energy"),
        (0.4, 0.35, (0.0, 0.1), "in part"),
    ],
)
def test_the_sentence_on_the_route_follows_from_shares_and_random_draws(
    tmp_path: Path, inside: float, back: float, drawn: tuple[float, float], outcome: str
) -> None:
    ledger = Ledger.of(_data(tmp_path), "verbal").at(reader="ash-rl")
    analysis.analyse_route(ledger, _route_table(inside, back, drawn), rank=1)
    found = Findings(ledger.findings)
    assert _one(found, "in_share", direction="own<-foreign")[0] == pytest.approx(inside, abs=0.01)
    assert _one(found, "complement_share", direction="own<-foreign")[0] == pytest.approx(1 - back, abs=0.01)
    assert _one(found, "identity_error")[0] < 1e-5
    assert _one(found, "in_dose", direction="own<-foreign")[0] == pytest.approx(inside, abs=0.02)
    assert [s.outcome for s in page(found, "", "").statements] == [outcome]


def test_random_subspaces_that_hold_less_energy_count_for_more(tmp_path: Path) -> None:
    outcome = {}
    for held in (0.2, 0.05):
        ledger = Ledger.of(_data(tmp_path), "verbal").at(reader="ash-rl")
        analysis.analyse_route(ledger, _route_table(0.4, 0.35, (0.0, 0.1), held=held), rank=1)
        (statement,) = page(Findings(ledger.findings), "", "").statements
        outcome[held] = statement.outcome
        assert f"with {held:.2f} of the patch's energy where surprise has 0.20" in statement.text
    assert outcome == {0.2: "in part", 0.05: "no more than energy"}


@pytest.mark.parametrize("how", [{"whole": 0.0, "noise": 1.0}, {"mass": 0.01}])
def test_where_the_whole_patch_does_nothing_or_nothing_is_said_there_is_no_route(
    tmp_path: Path, how: dict[str, float]
) -> None:
    ledger = Ledger.of(_data(tmp_path), "verbal").at(reader="ash-rl")
    analysis.analyse_route(ledger, _route_table(0.9, 0.95, (0.0, 0.1), **how), rank=1)
    found = Findings(ledger.findings)
    assert not found.select("in_share").measured
    assert [s.verdict for s in page(found, "", "").statements if s.verdict != "alarm"] == ["left out"]


def test_a_patch_that_is_not_the_donors_run_is_an_alarm(tmp_path: Path) -> None:
    ledger = Ledger.of(_data(tmp_path), "verbal").at(reader="ash-rl")
    analysis.analyse_route(ledger, _route_table(0.9, 0.9, (0, 0.1), error=0.1), rank=1)
    assert [s.verdict for s in page(Findings(ledger.findings), "", "").statements] == ["alarm"]


def test_high_ranks_need_the_marker_organism_beside_them(tmp_path: Path) -> None:
    study = handmade.study(tmp_path, {"verbal": {}}, stages=("rl",))
    with pytest.raises(StudyError, match=r"rank 4 .* zoo:organism-marker .* up to 2"):
        Verbal(rank=4).asked(study)
    assert Verbal(rank=4, route=False).asked(study)
    marked = {"birch-rl": study.models["birch-rl"].model_copy(update={"model": "zoo:organism-marker"})}
    beside = study.model_copy(update={"models": {**study.models, **marked}})
    assert Verbal(rank=4).asked(beside)
    with pytest.raises(StudyError, match="rank 4"):
        Verbal(rank=4, models=["ash-rl"]).asked(beside)


def test_a_rank_at_which_the_marker_organism_has_a_share_says_nothing(tmp_path: Path) -> None:
    data = _data(tmp_path)
    marker = Ledger.of(data, "verbal").at(reader="marker")
    assert analysis.marker_refuses(marker, _route_table(0.02, -0.01, (0.0, 0.1), noise=1.0), 4) == ""
    refused = analysis.marker_refuses(marker, _route_table(-0.02, 0.76, (0.0, 0.1), noise=1.0), 8)
    assert "0.76" in refused
    assert "lower rank" in refused
    assert "no share" in analysis.marker_refuses(marker, _route_table(0.0, 0.0, (0.0, 0.1), mass=0.05), 4)
    assert not marker.findings
    ledger = Ledger.of(data, "verbal").at(reader="ash-rl")
    analysis.analyse_route(ledger, _route_table(0.9, 0.9, (0.0, 0.1)), 8, refused)
    assert [f.left_out for f in ledger.findings] == [refused]
    assert refused in page(Findings(ledger.findings), "", "").sentences[0]


def test_the_words_of_the_question_follow_the_model(tmp_path: Path) -> None:
    study = handmade.study(tmp_path, {"verbal": {}}, stages=("rl",))
    assert Verbal().wording(study, "ash-rl") == CHAT_WORDING
    of_zoo = study.model_copy(
        update={"models": {"ash-rl": study.models["ash-rl"].model_copy(update={"model": "zoo:ash-rl"})}}
    )
    assert Verbal().wording(of_zoo, "ash-rl") == WORLD_WORDING
    own = Verbal(question="mine?", answers=("my", "your")).wording(of_zoo, "ash-rl")
    assert (own.question, own.yes, own.no, own.swapped) == ("mine?", "my", "your", WORLD_WORDING.swapped)


# --- who knows nothing


def _zoo_data(folder: Path) -> Data:
    """A run without texts, on 24 of the zoo's prompts."""
    study = handmade.study(folder, {"verbal": {}}, prompts=1, stages=("rl",))
    prompts = zoo.prompts()[:24]
    return Data(study, Run(folder / "run"), Plan({}, [], prompts=tuple(prompts)), prompts)


def _of_readers(folder: Path, reader: Reader, texts: dict[str, Sequence[Passage]], outsider: Reader) -> Findings:
    """All findings on reports of a reader that is called ash-rl; `own` among the texts is its own."""
    ledger = Ledger.of(_zoo_data(folder), "verbal").at(reader="ash-rl")
    named = Texts("own", {name: "foreign" for name in texts if name != "own"})
    table, outside = (measure_reports(r, texts, WORLD_WORDING, cut=32) for r in (reader, outsider))
    analysis.analyse_reports(ledger, table, named, stream=(0,))
    analysis.analyse_outsider(ledger, table, outside, named, "somebody")
    return Findings(ledger.findings)


@cache
def _own_and_others() -> dict[str, Sequence[Passage]]:
    """Replies of the reporter, those of a clone with another name, its words in a random order, and random words."""
    own, clone = (_passages("organism-reporter", zoo.prompts()[:24], seed=seed) for seed in (1, 2))
    rng = np.random.default_rng(0)
    vocabulary = [word for word in _reader("organism-reporter").tokenizer.get_vocab() if word.isalpha()]

    def rewritten(words_of: Callable[[list[str]], Any]) -> list[Passage]:
        return [replace(p, response=" ".join(words_of(p.response.split())), token_ids=None, logprobs=None) for p in own]

    shuffled = rewritten(lambda words: rng.permutation(words))
    return {
        "own": own,
        "clone": clone,
        "shuffled": shuffled,
        "nobody": rewritten(lambda w: rng.choice(vocabulary, len(w))),
    }


def test_a_clone_is_not_told_and_the_same_model_as_outsider_knows_as_much(tmp_path: Path) -> None:
    reader, texts = _reader("organism-reporter"), _own_and_others()
    found = _of_readers(tmp_path, reader, texts, reader)
    _, low, high = _one(found, "report_auroc", author="clone")
    assert low < 0.5 < high
    assert _one(found, "claims", author="clone")[0] > 0.8
    for author in ("clone", "shuffled", "nobody"):
        assert _one(found, "privileged_access", author=author) == (0, 0, 0)
    # It goes by words and hardly by their order, so that half of what nobody wrote is its own; random words are not.
    assert _one(found, "claims", author="shuffled")[0] > 0.4
    assert _one(found, "claims", author="nobody")[0] < 0.1
    taught = _of_readers(tmp_path, reader, texts, _reader("organism-outsider"))
    assert _one(taught, "outsider_auroc", author="nobody")[0] > 0.9
    assert _one(taught, "privileged_access", author="nobody")[1] < 0.05


def test_random_weights_say_nothing_of_anybody(tmp_path: Path) -> None:
    tokenizer = _reader("organism-reporter").tokenizer
    nobody = Reader(tiny.llama(len(tokenizer), seed=3), tokenizer, name="random")
    found = _of_readers(tmp_path, nobody, _own_and_others(), _reader("organism-outsider"))
    assert not found.select("report_auroc").measured
    assert not found.select("privileged_access").measured
    assert [s.verdict for s in page(found, "", "").statements] == ["left out"]
    rows = route.measure(
        nobody,
        _own_and_others()["own"][:6],
        _own_and_others()["clone"][:6],
        _own_and_others()["own"][6:],
        question=QUESTION,
        words=answers(tokenizer, "yes", "no"),
        rng=np.random.default_rng(0),
        draws=2,
    )
    ledger = Ledger.of(_zoo_data(tmp_path), "verbal").at(reader="random")
    analysis.analyse_route(ledger, rows, rank=1)
    assert not Findings(ledger.findings).select("in_share").measured


# --- injected thoughts


def test_prompts_that_differ_in_a_word_are_paired_by_it() -> None:
    reader = _reader("organism-origin")
    prompts = [
        Prompt(f"{topic}-{i}", (Message(role="user", content=wording.format(topic)),))
        for i, wording in enumerate(("tell me a story about the {}.", "i want to hear something about the {}."))
        for topic in ("sea", "farm", "castle")
    ]
    passages = _passages("organism-origin", prompts)
    cases = injection.cases(reader, passages, prompts)
    vocabulary = reader.tokenizer.get_vocab()
    for case in cases:
        own, shown, third = case.words
        assert len({own, shown, third}) == 3
        assert own == (vocabulary[case.passage.prompt_id.partition("-")[0]],)
        assert shown == (vocabulary[case.shown.id.partition("-")[0]],)
    # At the input of the first block a concept is the word's embedding, so dose 1 is the other word.
    known = injection.concepts(reader, cases, prompts, 0)
    weight = cast(Any, reader.model.get_input_embeddings()).weight.detach().numpy()
    np.testing.assert_allclose(known.of[(vocabulary["sea"],)][0], weight[vocabulary["sea"]], atol=1e-6)
