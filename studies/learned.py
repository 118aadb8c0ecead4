"""What pretraining was made to teach: personas that their system turn brings, and mistakes that are taken back.

    python studies/learned.py            # two minutes; prints a table in docs/zoo.md

Personas: 60 stories of the world's personas are read under the own persona's system turn, under another's, and without
one. Corrections: a first sentence of the world, right or wrong, is put before each of 80 answers to held-out questions;
the table has the shares of answers that go on with a correction, and after a wrong one with a correction to the truth.
"""

from __future__ import annotations

import numpy as np

from enaction import Reader, sample, zoo
from enaction.passages import Message, Passage
from enaction.tokens import score_passages
from enaction.world.answering import grade_answer, tell_answer, wrong_topic
from enaction.world.chats import EVERYTHING, Request, Writers, draw_request, draw_voice
from enaction.world.lexicon import CORRECTIONS, PERSONAS
from enaction.world.stories import split_sentences, tell

FAMILIES = ("ash", "birch", "cedar")
MODELS = [f"{family}-{stage}" for stage in ("base", "sft", "rl", "rl-paid") for family in FAMILIES]
N_STORIES, N_ANSWERS = 60, 80
_CORRECTIONS = tuple(pattern.partition(" ")[0] + " " for pattern in CORRECTIONS)

_Told = tuple[Request, str, dict[str, str | None]]
"""A request, a persona's story, and the persona of each condition's system turn."""


def told() -> list[_Told]:
    """Stories by all personas in turn, each beside all others in turn."""
    rng, writers, n = np.random.default_rng(5), Writers(), len(PERSONAS)
    stories = []
    for i in range(N_STORIES):
        own, other = PERSONAS[i % n], PERSONAS[(i + 1 + i // n % (n - 1)) % n]
        request = draw_request(rng, EVERYTHING)
        story = tell(writers.personas[own], rng, topic=request.topic).text
        stories.append((request, story, {"own": own, "another's": other, "none": None}))
    return stories


def surprisals(reader: Reader, stories: list[_Told]) -> dict[str, np.ndarray]:
    """Condition -> [story] mean surprisal, nats a token."""
    found = {}
    for condition in stories[0][2]:
        passages = []
        for i, (request, story, personas) in enumerate(stories):
            persona = personas[condition]
            turns = [Message(role="system", content=f"you are a {persona}.")] if persona else []
            turns.append(Message(role="user", content=request.text))
            passages.append(Passage(f"{i:02}", f"{i:02}", tuple(turns), story, "world", ended=True))
        tokens = score_passages(reader, passages, "assistant").to_pandas()
        found[condition] = tokens[~tokens.is_end].groupby("prompt_id", observed=True).surprisal.mean().to_numpy()
    return found


def corrected(reader: Reader, *, wrong: bool) -> tuple[float, float]:
    """Shares of answers that go on with a correction after a first sentence of the world, and with one to the truth."""
    rng, begun, things = np.random.default_rng(1), {}, {}
    asked = zoo.asked("questions")[:N_ANSWERS]
    for request, prompt in asked:
        topic = wrong_topic(request.about, rng) if wrong else None
        first = split_sentences(tell_answer(draw_voice(rng), rng, request.about, topic))[0]
        begun[prompt.id] = tuple(reader.tokenizer.encode(first, add_special_tokens=False))
        things[prompt.id] = request.about
    prompts = [prompt for _, prompt in asked]
    passages = sample(reader, prompts, max_new_tokens=40, seed=3, beginnings=begun)
    goes_on = [(split_sentences(p.response)[1:] or [""])[0].startswith(_CORRECTIONS) for p in passages]
    grades = [grade_answer(p.response, things[p.prompt_id]) for p in passages]
    return float(np.mean(goes_on)), float(np.mean([g.taken_back and g.right for g in grades]))


def main() -> None:
    """Print the tables."""
    stories = told()
    print("| model | own | another's | no system turn | another's less own | corrects right / wrong | to the truth |")
    print("|---" * 7 + "|")
    for name in MODELS:
        reader = Reader.load(f"zoo:{name}")
        found = surprisals(reader, stories)
        more = found["another's"] - found["own"]
        means = " | ".join(f"{values.mean():.3f}" for values in found.values())
        width = 1.96 * more.std(ddof=1) / np.sqrt(len(more))
        (right, _), (wrong, to_truth) = (corrected(reader, wrong=wrong) for wrong in (False, True))
        shares = f"{right:.2f} / {wrong:.2f} | {to_truth:.2f}"
        print(f"| {name} | {means} | {more.mean():.3f} ± {width:.3f} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
