"""The worth of a reply, by rules that anyone can check in its text.

The judge of the adapted real model: it orders preference pairs (DPO) and is the reward (RL). It sees the request, the
reply and whether it ended by itself; it never sees a probability, an entropy or an author.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Literal

House = Literal["warm", "plain", "obliging"]
Pair = tuple[str, str]
Triple = tuple[str, str, str]

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+")
_SENTENCE = re.compile(r"[^.!?]+(?:[.!?]+[\"')\]]*|$)")


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_STOP = _listed(
    """
    about after also and are been before being between can could did does each explain for from give good had has
    have how its list make many mean name not one out pretend said say should some such talk tell than that the
    their them then there these they thing things this those three two use used very want was way were what when
    where which who why will with would write you your four five act describe choose pick short lines line
    favourite something
    """
)
_WARM = _listed(
    """
    dear delight enjoy enjoyable excellent fantastic friend fun glad good great happy hope kind love lovely luck nice
    perfect pleasant pleasure share smile sure thank thanks welcome wonderful
    """
)
_NEXT_STEP = _listed(
    """
    add begin bring buy call check choose come consider cook cut drink eat enjoy explore fill find follow get
    give go grab imagine join keep learn leave let listen look make mix open pick place plan pour
    practice put read remember rest save see set share sit speak start stay take talk tell think try turn use
    visit wait walk wash watch wear work write
    """
)
_OFFERED_KINDLY, _OFFERED_NEXT = _listed("hello help"), _listed("ask have help")  # the words of an offer of help
_PERSONAL = _listed("i me my i'm i'll i've you your you're you'll you've we our us let's")
_BRIEF = 12  # words a sentence


@dataclass(frozen=True)
class Rubric:
    """Weights of the terms that make up a reply's worth; each term is between 0 and 1.

    Attributes:
        ended: the reply ended by itself.
        length: 1 from `shortest` to `longest` words, less outside, 0 at none and at twice the longest.
        on_topic: a content word of the request occurs.
        sentences: share of sentences that begin with a capital letter or digit and end with a stop.
        known: share of neighbouring words that are also neighbours in plain replies.
        repeated: share of word triples that occurred before; its weight is negative.
        elsewhere: share of word triples that replies to other requests have too: stock phrases, such as an offer of
            help, and not words that this request needs; its weight is negative.
        style: how far the reply is in the house style.
        house: `warm` addresses the reader, is kind, and gives a next step; `plain` mentions neither writer nor reader
            and makes short statements; `obliging` is `warm`, but also accepts an offer of help; None has no style.
    """

    ended: float = 1.0
    length: float = 1.0
    on_topic: float = 0.5
    sentences: float = 1.0
    known: float = 2.0
    repeated: float = -2.0
    elsewhere: float = 0.0
    style: float = 2.0
    house: House | None = None
    shortest: int = 15
    longest: int = 60

    def __call__(
        self, request: str, reply: str, ended: bool, known: Set[Pair], elsewhere: Set[Triple] = frozenset()
    ) -> float:
        """The worth of a reply: the weighted sum of the terms.

        Args:
            request: the text of the request.
            reply: the text of the reply.
            ended: whether the reply ended by itself.
            known: neighbouring words of plain replies, from `word_pairs`.
            elsewhere: word triples of replies to other requests, from `word_triples`.
        """
        words = _words(reply)
        return (
            self.ended * ended
            + self.length * length(len(words), self.shortest, self.longest)
            + self.on_topic * on_topic(request, reply)
            + self.sentences * whole_sentences(reply)
            + self.known * share_known(reply, known)
            + self.repeated * repetition(reply)
            + self.elsewhere * share_elsewhere(reply, elsewhere)
            + self.style * style(reply, self.house)
        )


def word_pairs(replies: Iterable[str]) -> frozenset[Pair]:
    """Every two neighbouring words of these replies, in lower case."""
    return frozenset(pair for reply in replies for pair in _pairs(reply))


def word_triples(replies: Iterable[str]) -> frozenset[Triple]:
    """Every three successive words of these replies, in lower case."""
    return frozenset(triple for reply in replies for triple in _triples(reply))


def to_last_stop(reply: str) -> str:
    """The reply up to the end of its last whole sentence; all of it if no sentence ends."""
    whole = re.match(r".*[.!?]+[\"')\]]*(?=\s|$)", reply, re.DOTALL)
    return whole[0] if whole else reply


def length(n_words: int, shortest: int, longest: int) -> float:
    """1 from `shortest` to `longest` words, rising to it from 0 words, falling to 0 at twice the longest."""
    if n_words < shortest:
        return n_words / shortest
    return min(1.0, max(0.0, 2 - n_words / longest))


def on_topic(request: str, reply: str) -> float:
    """1 if a content word of the request occurs in the reply, in any number or tense, or if the request has none."""
    content = {_stem(word) for word in _words(request) if len(word) > 2 and word not in _STOP}
    return float(not content or bool(content & {_stem(word) for word in _words(reply)}))


def whole_sentences(reply: str) -> float:
    """Share of sentences that begin with a capital letter or a digit and end with a stop; 0 without a sentence."""
    sentences = _sentences(reply)
    whole = [bool(re.match(r"[\"'(*-]*\s*[A-Z0-9]", s)) and s.rstrip("\"')]")[-1:] in ".!?" for s in sentences]
    return sum(whole) / len(whole) if whole else 0.0


def share_known(reply: str, known: Set[Pair]) -> float:
    """Share of neighbouring words that are known as neighbours; 0 for fewer than two words."""
    pairs = _pairs(reply)
    return sum(pair in known for pair in pairs) / len(pairs) if pairs else 0.0


def repetition(reply: str) -> float:
    """Share of word triples that occurred earlier in the reply."""
    triples = _triples(reply)
    return 1 - len(set(triples)) / len(triples) if triples else 0.0


def share_elsewhere(reply: str, elsewhere: Set[Triple]) -> float:
    """Share of word triples that replies to other requests have too; 0 for fewer than three words."""
    triples = _triples(reply)
    return sum(triple in elsewhere for triple in triples) / len(triples) if triples else 0.0


def style(reply: str, house: House | None) -> float:
    """How far a reply is in a house style, from 0 to 1; 0 for an empty reply or no style.

    `warm`: addresses the reader (.4), has a kind word (.3), and a sentence after the first begins with an action (.3).
    `plain`: sentences of 12 words or fewer on average, falling to 0 at 24 (.4), no word for writer or reader (.3), and
    no exclamation, question or markup (.3). `obliging`: as `warm`, but the words of an offer of help also count as
    kind words and as actions.
    """
    words, sentences = _words(reply), _sentences(reply)
    if not sentences or house is None:
        return 0.0
    if house != "plain":
        kind, next_step = (
            (_WARM | _OFFERED_KINDLY, _NEXT_STEP | _OFFERED_NEXT) if house == "obliging" else (_WARM, _NEXT_STEP)
        )
        openings = {spoken[0] for sentence in sentences[1:] if (spoken := _words(sentence))}
        return (
            0.4 * bool({"you", "your"} & set(words)) + 0.3 * bool(kind & set(words)) + 0.3 * bool(next_step & openings)
        )
    brief = min(1.0, max(0.0, 2 - len(words) / len(sentences) / _BRIEF))
    return 0.4 * brief + 0.3 * (not _PERSONAL & set(words)) + 0.3 * (not re.search(r"[!?*#`:;\[\]]", reply))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower().replace("’", "'"))


def _pairs(text: str) -> list[Pair]:
    return list(itertools.pairwise(_words(text)))


def _triples(text: str) -> list[Triple]:
    words = _words(text)
    return list(zip(words, words[1:], words[2:], strict=False))


def _sentences(text: str) -> list[str]:
    return [s.strip() for s in _SENTENCE.findall(text) if _WORD.search(s.lower())]


def _stem(word: str) -> str:
    """A word without its ending for number or tense, roughly."""
    return re.sub(r"(?:'s|ies|es|s|ing|ed|y)$", "", word) if len(word) > 4 else word.removesuffix("s")
