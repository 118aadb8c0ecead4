"""Imitations keep a writer's habits and nothing else, and their arm gives back what was planted."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import handmade
import numpy as np
import pytest

from enaction.experiments import analyse, plan
from enaction.experiments.controls import Controls
from enaction.experiments.controls.imitation.texts import ANEW, KINDS, Anew, InHouse, Recombined, Retold, sentences
from enaction.findings import Findings
from enaction.lab.recipes import RECIPES
from enaction.page import Page
from enaction.passages import Passage, Prompt
from enaction.running import load_study, run_study
from enaction.study.config import Study
from enaction.study.desk import Desk
from enaction.study.planning import digest
from enaction.study.store import Cell, Run
from enaction.words import MEAN
from enaction.world.chats import all_requests
from enaction.world.houses import HOUSE_SEEDS, house_voice
from enaction.world.imitation import Habits, habits_of, settled
from enaction.world.lexicon import ARCS, HEROES, TOPICS
from enaction.world.stories import Voice, grade, parse_sentence, split_sentences, tell

FAMILIES = ("ash", "birch", "cedar")
MODELS = [f"{family}-rl" for family in FAMILIES]
PLANTED = 0.8
# How much of the planted recognition its reader has for such a text.
LEFT = {"": 1.0, ".imitation": 1.0, ".house": 0.3, ".settled": 0.5, ".recombined": 0.9, ".anew": 1.0}
# Its surprisal less entropy there, nats.
EXCESS = {".imitation": 0.0, ".house": 0.4, ".settled": -0.3, ".recombined": 0.2}
# Cells are means of entropies, and not of their logarithms.
NEAR = 0.03


def _study(folder: Path, **more: object) -> Study:
    models = {f"{f}-{s}": {"model": "nowhere", "family": f, "stage": s} for s in ("base", "rl") for f in FAMILIES}
    controls = {"temperatures": [], "top_p": []}
    given = {"name": "planted", "models": models, "prompts": "zoo", "n_prompts": 36, "framings": ["assistant"],
             "sampling": {"per_prompt": 1}, "resamples": 200, "experiments": {"controls": controls}}  # fmt: skip
    return Study.model_validate(given | more)


def _ending(reader: str, author: str) -> str | None:
    """What the reader's own model adds to its name in the author; None for another model's text."""
    return author.removeprefix(reader) if author.startswith(reader) else None


def _noise(*names: str, scale: float) -> float:
    """A number of its own for each thing, the same at each call; own text has the same one with ids and without."""
    seed = [*"/".join(names).replace(".anew", "").encode()]
    return float(np.random.default_rng(seed).normal(0, scale))


def _reading(cell: Cell, passage: Passage) -> tuple[np.ndarray, np.ndarray]:
    """Main effects of reader and text, and what is planted."""
    rng = np.random.default_rng(list(f"{cell.reader} {passage.prompt_id} {cell.author}".encode()))
    n, ending = len(passage.response.split()), _ending(cell.reader, cell.author)
    log = _noise(cell.reader, scale=0.3) + _noise(cell.author, scale=0.3)
    log += _noise(cell.author, passage.prompt_id, scale=0.1) + rng.normal(0, 0.02)
    log -= PLANTED * LEFT.get(ending, 0.0) if ending is not None else 0.0
    entropy = np.full(n, np.exp(log))
    return entropy, entropy + rng.normal(0, 0.05, n) + (EXCESS.get(ending, 0.0) if ending is not None else 0.0)


def _telling(author: str, prompt: Prompt, _: int) -> Passage:
    """A story of the world in a voice of the author's own."""
    rng = np.random.default_rng(list(f"{author}{prompt.id}".encode()))
    voice = house_voice(HOUSE_SEEDS[author.split("-")[0]])
    story = tell(voice, rng, topic=_topics()[prompt.messages[-1]["content"]])
    return Passage(f"{prompt.id}/0", prompt.id, prompt.messages, story.text, author, {"framing": "assistant"},
                   token_ids=(5,) * 9, tokenizer="words", ended=True)  # fmt: skip


def _topics() -> dict[str, str | None]:
    return {request.text: request.topic for request in all_requests()}


@pytest.fixture(scope="module", name="planted")
def _planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Run, Findings]:
    folder = tmp_path_factory.mktemp("planted")
    study = _study(folder)
    run = handmade.run(study, folder / "run", _reading, writing=_telling)
    return study, run, analyse(study, run)


@pytest.fixture(scope="module", name="findings")
def _findings(planted: tuple[Study, Run, Findings]) -> Findings:
    return planted[2]


def _estimate(findings: Findings, quantity: str, **where: str) -> float:
    found = findings.one(quantity, **where)
    assert found is not None
    assert found.estimate is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.estimate <= found.high
    return found.estimate


def _seen(voice: Voice, n: int, words: Mapping | None = None) -> Habits:
    rng = np.random.default_rng(3)
    return habits_of((None, tell(voice, rng, words=words).text) for _ in range(n))


def test_habits_are_those_of_the_writer() -> None:
    writer, other = (Voice(1.8, np.random.default_rng(seed)) for seed in (8, 9))
    rng = np.random.default_rng(3)
    stories = [tell(writer, rng) for _ in range(1500)]
    seen = habits_of((None, story.text) for story in stories)
    assert seen.well_formed == 1
    for name, options in (("topic", list(TOPICS)), ("arc", list(ARCS)), ("hero", list(HEROES))):
        latent = [options.index(getattr(story, name)) for story in stories]
        counted = np.bincount(latent, minlength=len(options)) / len(stories)
        np.testing.assert_allclose(seen.voice.probabilities[name], counted, err_msg=name)
    for name in ("opening", "description", "closing", "opener", "stop", "[very]"):
        # Another writer is far from this one, so that the bound could be missed.
        near, far = (_apart(seen.voice, voice, name) for voice in (writer, other))
        assert near < 0.05 < far, name


def _apart(voice: Voice, other: Voice, name: str) -> float:
    """Total variation between two voices' probabilities of a choice."""
    return float(np.abs(voice.probabilities[name] - other.probabilities[name]).sum() / 2)


def test_habits_hold_the_content_words() -> None:
    lopsided = {
        topic: {kind: np.eye(len(w))[1] for kind, w in kinds._asdict().items()} for topic, kinds in TOPICS.items()
    }
    seen = _seen(Voice(0.5, np.random.default_rng(1)), 400, lopsided)
    for topic, kinds in lopsided.items():
        for kind, share in kinds.items():
            np.testing.assert_allclose(seen.words[topic][kind], share, err_msg=f"{topic} {kind}")
    assert _seen(Voice(0.5, np.random.default_rng(1)), 400).words["sea"]["object"].max() < 0.3


def test_topics_are_a_habit_only_where_the_request_leaves_them_open() -> None:
    rng, voice = np.random.default_rng(0), Voice(0.0, np.random.default_rng(0))
    asked = [("sea", tell(voice, rng, topic="sea").text) for _ in range(20)]
    free = [(None, tell(voice, rng, topic="farm").text) for _ in range(5)]
    topics = list(TOPICS)
    assert habits_of([*asked, *free]).voice.probabilities["topic"][topics.index("farm")] == 1
    np.testing.assert_allclose(habits_of(asked).voice.probabilities["topic"], 1 / len(topics))


def test_what_does_not_parse_leaves_no_trace_and_is_counted() -> None:
    seen = habits_of([(None, "the quick fox jumps. it was then that bella left.")])
    assert seen.well_formed == 0
    np.testing.assert_allclose(seen.voice.probabilities["hero"], 1 / len(HEROES))


def test_a_settled_voice_tells_one_arc_of_one_hero_in_its_own_words() -> None:
    voice, rng = Voice(1.8, np.random.default_rng(4)), np.random.default_rng(5)
    fixed = settled(voice, {"arc": 2, "hero": 3})
    stories = [tell(fixed, rng) for _ in range(30)]
    assert {(story.arc, story.hero) for story in stories} == {(list(ARCS)[2], HEROES[3])}
    np.testing.assert_allclose(fixed.probabilities["[very]"], voice.probabilities["[very]"])


def test_the_houses_are_those_that_the_lab_builds() -> None:
    for family, recipe in RECIPES.items():
        if "sft" in recipe.stages:
            assert house_voice(HOUSE_SEEDS[family]).favourite == recipe.house_voice().favourite
    assert len({tuple(house_voice(HOUSE_SEEDS[f]).favourite.values()) for f in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize(
    "text", ["One. Two!  Three?\n\nFour", " a.b c. ", "“Stop.” he said.", "no end", "1.5 is. more"]
)
def test_sentences_make_up_the_text_again(text: str) -> None:
    assert "".join(sentences(text)) == text
    assert all(part.strip() for part in sentences(text))


def test_sentences_end_where_white_space_follows() -> None:
    assert sentences("It costs 1.5 now! Why?  So.") == ["It costs 1.5 now! ", "Why?  ", "So."]
    assert sentences("   ") == []


def _desk(folder: Path, passages: dict[str, list[Passage]], **more: object) -> Desk:
    study = _study(folder, **more)
    run = Run(folder / "desk")
    run.open(study)
    for author, written in passages.items():
        run.write_passages(author, [replace(passage, author=author) for passage in written])
    return Desk(study, tuple(study.load_prompts()), run)


def test_recombined_text_has_a_sentence_of_some_reply_at_each_place_and_ends_as_replies_end(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(
        '{"id": "p", "prompt": "x"}\n{"id": "q", "prompt": "y"}\n{"id": "e", "prompt": "z"}'
    )
    p, q = (Prompt(i, ({"role": "user", "content": t},)) for i, t in (("p", "x"), ("q", "y")))
    replies = [
        *(
            Passage(f"p/{k}", "p", p.messages, f"a{k}. {f'b{k}. ' * (k % 2)}c{k}.", "m.more", ended=True)
            for k in range(4)
        ),
        *(Passage(f"q/{k}", "q", q.messages, f"d{k}. cut{k}", "m.more", ended=False) for k in range(4)),
        Passage("e/0", "e", p.messages, "", "m.more", token_ids=(1,), tokenizer="words", ended=True),
    ]
    more = {"prompts": str(tmp_path / "p.jsonl"), "n_prompts": None, "sampling": {"per_prompt": 40}}
    desk = _desk(tmp_path, {"m.more": replies}, **more)
    text = Recombined(name="m.recombined", model=None, count=120, source="m.more", by_topic=False)
    made = text.write(desk)
    assert [passage.prompt_id for passage in made] == ["p"] * 40 + ["q"] * 40
    for passage in made[:40]:
        assert "".join(part[0] for part in sentences(passage.response)) in ("ac", "abc")
        assert passage.ended
    assert all(sentences(passage.response)[1].startswith("cut") and passage.ended is False for passage in made[40:])
    # Most have sentences of several replies, and all replies are used.
    numbers = [[part.strip()[1] for part in sentences(passage.response)] for passage in made[:40]]
    assert sum(len(set(of)) > 1 for of in numbers) > 25
    assert {number for of in numbers for number in of} == set("0123")
    assert made == text.write(desk)


def test_in_the_world_sentences_are_recombined_within_topic_and_arc(tmp_path: Path) -> None:
    study = _study(tmp_path)
    replies = [_telling("ash-rl", prompt, 0) for prompt in study.load_prompts()]
    desk = _desk(tmp_path, {"ash-rl.more": replies})
    made = Recombined(name="x", model=None, count=36, source="ash-rl.more", by_topic=True).write(desk)
    of = {passage.prompt_id: grade(passage.response) for passage in replies}
    for passage in made:
        graded, followed = grade(passage.response), of[passage.prompt_id]
        assert (graded.topic, graded.arc, graded.complete) == (followed.topic, followed.arc, 1.0)


def test_generated_texts_are_on_the_topic_and_of_the_habits_that_are_theirs(
    planted: tuple[Study, Run, Findings],
) -> None:
    _, run, _ = planted
    own, retold, house, fixed = (run.passages(f"ash-rl{e}") for e in ("", ".imitation", ".house", ".settled"))
    topics = _topics()
    for passage in (*retold, *house, *fixed):
        asked = topics[passage.prompt[-1]["content"]]
        assert asked is None or grade(passage.response, asked).on_topic == 1
        assert passage.ended
        assert passage.token_ids is None
    assert not {passage.response for passage in retold} & {passage.response for passage in own}
    seen = habits_of((topics[p.prompt[-1]["content"]], p.response) for p in run.passages("ash-rl.more")).voice
    for passage in retold:  # no option that the model did not take
        parsed = [parse_sentence(sentence) for sentence in split_sentences(passage.response)]
        assert all(seen.probabilities[name][i] > 0 for s in parsed if s is not None for name, i in s.choices)
    assert {grade(passage.response).arc for passage in fixed} == {list(ARCS)[seen.favourite["arc"]]}
    assert len({grade(passage.response).arc for passage in house}) > 1


def test_every_kind_gets_its_planted_recognition(findings: Findings) -> None:
    assert _estimate(findings, "arm_recognition", arm="reference", reader=MEAN) == pytest.approx(PLANTED, abs=NEAR)
    for kind in KINDS:
        at, left = {"arm": kind.arm, "setting": kind.setting}, LEFT[kind.ending]
        for reader in (*MODELS, MEAN):
            got = _estimate(findings, "imitation_recognition", reader=reader, **at)
            assert got == pytest.approx(PLANTED * left, abs=2 * NEAR), (kind, reader)
            beyond = _estimate(findings, "arm_recognition", reader=reader, **at)
            assert beyond == pytest.approx(PLANTED * (1 - left), abs=2 * NEAR), (kind, reader)
        assert _estimate(findings, "imitation_share", reader=MEAN, **at) == pytest.approx(left, abs=2 * NEAR)


def test_what_an_imitation_gets_and_what_own_text_has_beyond_it_are_the_whole(findings: Findings) -> None:
    whole = _estimate(findings, "arm_recognition", arm="reference", reader=MEAN)
    for kind in KINDS:
        at = {"arm": kind.arm, "setting": kind.setting, "reader": MEAN}
        parts = [_estimate(findings, quantity, **at) for quantity in ("imitation_recognition", "arm_recognition")]
        assert sum(parts) == pytest.approx(whole, abs=1e-9)
        shares = [_estimate(findings, quantity, **at) for quantity in ("imitation_share", "arm_share")]
        assert sum(shares) == pytest.approx(1, abs=1e-9)


def test_ownness_finds_what_was_planted_and_only_that(findings: Findings) -> None:
    for kind in KINDS:
        for reader in MODELS:
            beyond = findings.one("ownness_beyond_own", arm=kind.arm, setting=kind.setting, reader=reader)
            assert beyond is not None
            assert beyond.estimate == pytest.approx(EXCESS[kind.ending], abs=0.02)
            ownness = _estimate(findings, "ownness", reader=reader, author=f"{reader}{kind.ending}")
            assert ownness == pytest.approx(EXCESS[kind.ending], abs=0.02)
    (own,) = findings.select("ownness", reader="ash-rl", author="ash-rl")
    assert own.estimate == pytest.approx(0, abs=0.02)


def test_own_text_tokenised_anew_is_the_null(findings: Findings) -> None:
    assert _estimate(findings, "imitation_share", arm=ANEW.arm, reader=MEAN) == pytest.approx(1, abs=NEAR)
    assert _estimate(findings, "arm_recognition", arm=ANEW.arm, reader=MEAN) == pytest.approx(0, abs=NEAR)


def _page(findings: Findings) -> Page:
    return Controls().page(findings.of("controls"))


def test_the_page_says_what_text_that_nobody_wrote_gets(findings: Findings) -> None:
    page = _page(findings)
    best, house, fixed, recombined = page.select("imitation_share")
    assert "is recognised like own text" in best.text
    assert [s.headline for s in (best, house, fixed, recombined)] == [True, False, False, False]
    assert all("a part of" in s.text for s in (house, fixed, recombined))
    assert all(s.text.endswith("tells the two apart for 3 of 3 readers.") for s in (house, fixed, recombined))
    overview, readers = page.sections[1].grids
    assert [row[0].text for row in overview.cells] == ["own text", *(kind.setting for kind in KINDS), ANEW.arm]
    assert all(len(row) == len(overview.header) for row in overview.rows)
    assert len(readers.rows) == len(MODELS) * (len(KINDS) + 2)
    verdicts = {(s.where.get("arm"), s.where.get("setting")): s.outcome for s in page.select("arm_recognition")}
    assert verdicts["imitation", "house voice"] == "survives"
    assert verdicts[ANEW.arm, None] in ("nothing left", "something left")


def test_each_text_is_written_from_replies_that_are_not_compared_and_travels_with_the_plan(tmp_path: Path) -> None:
    planned = plan(_study(tmp_path))
    assert {cell.author for cell in planned.cells if ".more" in cell.author} == set()
    assert planned.texts["ash-rl.more"].count == 4 * 36
    assert isinstance(planned.texts["ash-rl.settled"], InHouse)
    assert isinstance(planned.texts["ash-rl.anew"], Anew)
    for ending, kind in ((".imitation", Retold), (".recombined", Recombined)):
        assert isinstance(text := planned.texts[f"ash-rl{ending}"], kind)
        assert text.needs == ("ash-rl.more",)
    again = pickle.loads(pickle.dumps(planned))  # our own plan
    assert again.digest() == planned.digest()
    assert digest(planned.texts["ash-rl.house"]) != digest(planned.texts["birch-rl.house"])
    none = plan(_study(tmp_path, experiments={"controls": {"imitate_from": 0}}))
    assert not any(name.endswith((".more", ".imitation", ".anew")) for name in none.texts)


def test_a_study_says_which_imitations_it_cannot_have(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text("".join(f'{{"id": "p{i}", "prompt": "question {i}"}}\n' for i in range(8)))
    other = _study(tmp_path, prompts=str(tmp_path / "p.jsonl"), n_prompts=None)
    run = handmade.run(
        other, tmp_path / "run", handmade.at_positions(lambda r, a, p, t: 1 + 0.1 * len(r + a) + 0.01 * p)
    )
    findings = analyse(other, run)
    why = {f.where["setting"]: f.left_out for f in findings.select("arm_recognition", arm="imitation") if f.left_out}
    assert set(why) == {kind.setting for kind in KINDS[:3]}
    assert all("prompts: zoo" in reason for reason in why.values())
    (shown,) = _page(findings).select("imitation_share")
    assert "own replies" in shown.subject

    homeless = {f"{f}-rl": {"model": "nowhere", "family": f, "stage": "rl"} for f in ("ash", "birch", "oak")}
    names = set(plan(_study(tmp_path, models=homeless)).texts)
    assert {"oak-rl.imitation", "ash-rl.recombined"} <= names
    assert not {"ash-rl.house", "oak-rl.settled"} & names


def test_a_study_without_imitations_says_so(tmp_path: Path) -> None:
    study = _study(tmp_path, experiments={"controls": {"imitate_from": 0, "temperatures": [], "top_p": []}})
    run = handmade.run(study, tmp_path / "run", _reading, writing=_telling)
    page = _page(analyse(study, run))
    assert [s.outcome for s in page.select("arm_recognition", arm="imitation")] == ["left out"]
    assert page.select("imitation_share") == []


@pytest.mark.slow
def test_on_the_zoo_an_imitation_gets_what_own_text_gets_and_a_shuffle_of_own_sentences_is_told(tmp_path: Path) -> None:
    models = "".join(f"  {m}: {{model: 'zoo:{m}', family: {m.split('-')[0]}, stage: rl}}\n" for m in MODELS)
    (tmp_path / "study.yaml").write_text(
        f"name: imitation\nprompts: zoo\nn_prompts: 24\nmodels:\n{models}framings: [assistant]\n"
        f"sampling: {{per_prompt: 1, max_new_tokens: 110}}\nresamples: 400\n"
        f"experiments: {{controls: {{temperatures: [], top_p: []}}}}\n"
    )
    study = load_study(tmp_path / "study.yaml")
    run = run_study(study, tmp_path / "run")
    findings = analyse(study, run)
    best, house, _, recombined = ({"setting": kind.setting, "reader": MEAN} for kind in KINDS)
    share = findings.one("imitation_share", **best)
    assert share is not None
    assert share.low is not None
    assert share.low > 0.7
    assert _estimate(findings, "imitation_share", **house) < _estimate(findings, "imitation_share", **best)
    assert _estimate(findings, "imitation_share", **recombined) > 0.7
    # Entropy takes the shuffle of own sentences for own text; surprisal less entropy does not.
    found = [findings.one("ownness_beyond_own", setting=KINDS[3].setting, reader=reader) for reader in MODELS]
    assert all(f is not None and f.low is not None and f.low > 0 for f in found)
    for f in findings.select("imitated_share"):
        assert f.estimate is not None
        assert f.estimate > 0.9
