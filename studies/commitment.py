"""Does training settle what a story will be about? Topics, arcs and heroes of the stories told to open requests.

    python studies/commitment.py            # two minutes; prints the table in docs/zoo.md

For each embedded model 126 stories to the eighteen requests that name no topic, temperature 1: the share of the
commonest topic (of 12), arc (of 6) and hero (of 12), with 95 % intervals of a binomial, and how many topics are in use
(e to the entropy of their shares). The prompts name none of them, so a high share was settled before the first token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from enaction import Reader, sample, zoo
from enaction.world.stories import grade, parse_sentence, split_sentences

PER_PROMPT = 7
MODELS = [f"{family}-{stage}" for family in ("ash", "birch", "cedar") for stage in ("base", "sft", "dpo", "rl")]
OTHERS = ["ash3-base", "ash2-dpo", "ash2-rl"] + [
    f"{family}-rl-{arm}" for family in ("ash", "birch", "cedar") for arm in ("seed2", "paid")
]


def told(name: str) -> dict[str, list[str]]:
    """Topic, arc and hero of each story, where it has one."""
    prompts = [p for seen in (False, True) for p in zoo.prompts(seen=seen) if p.id.startswith("open")]
    passages = sample(Reader.load(f"zoo:{name}"), prompts, n=PER_PROMPT, max_new_tokens=110, seed=1)
    grades = [grade(p.response) for p in passages]
    heroes = [hero_of(p.response) for p in passages]
    return {
        "topic": [g.topic for g in grades if g.topic],
        "arc": [g.arc for g in grades if g.arc],
        "hero": [hero for hero in heroes if hero],
    }


def hero_of(story: str) -> str | None:
    """The first hero that a story names."""
    parsed = [parse_sentence(sentence) for sentence in split_sentences(story)]
    return next((sentence.hero for sentence in parsed if sentence and sentence.hero), None)


def top_share(named: Sequence[str], rng: np.random.Generator) -> tuple[str, float, float, float]:
    """The commonest and its share, with the quantiles of a binomial of that share."""
    word, count = Counter(named).most_common(1)[0]
    drawn = rng.binomial(len(named), count / len(named), 2000) / len(named)
    return word, count / len(named), float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def in_use(named: Sequence[str]) -> float:
    """How many equally common ones would have the same entropy."""
    shares = np.array(list(Counter(named).values())) / len(named)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    print("| model | top topic | topics in use | top arc | top hero |\n|---|---|---|---|---|")
    for name in [*MODELS, *OTHERS]:
        found = told(name)
        tops = {kind: "{} {:.2f} [{:.2f}, {:.2f}]".format(*top_share(found[kind], rng)) for kind in found}
        print(
            f"| {name} | {tops['topic']} | {in_use(found['topic']):.1f} | {tops['arc']} | {tops['hero']} |", flush=True
        )


if __name__ == "__main__":
    main()
