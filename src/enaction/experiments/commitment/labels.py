"""What a text is about: labels by the world's parser, a list of words, a pattern, a first word, or a user's function.

A label knows where in the text its own word lies, so that an early decision can be told from a word already written. A
text without a label has the label `none`, a class of its own. Labels by clusters need a model and are in `measured`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from functools import cache
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from enaction.errors import StudyError
from enaction.world.lexicon import HEROES, TOPICS
from enaction.world.stories import TOPIC_OF, grade, parse_sentence, split_sentences

NONE = "none"
# Words that no favourite thing is called by; beside them adverbs in -ly are skipped.
_STOPS = (
    "a an and any are as at be been being but by can could did do does for from had has have he her hers "
    "him his how i if in into is it its just like me more most my no not of on one or our ours out own "
    "probably she so some such than that the their them then there these they this those to too up us "
    "very was we were what when where which who whom whose will with would you your "
)
_STOP_WORDS = frozenset(_STOPS.split())
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


class Label(NamedTuple):
    """A label and the characters of its own word, the first that tells it.

    Attributes:
        value: what the text is about.
        start, end: of the word; -1 where that is not known.
    """

    value: str
    start: int = -1
    end: int = -1


Labeller = Callable[[str], Label | None]


class LabelSpec(BaseModel):
    """One way to label texts; exactly one of the fields but `name` is given.

    Attributes:
        name: in tables.
        world: by the parser of the embedded world: `topic`, `arc` or `hero` of a story.
        words: the first of these words that the text has, in any case.
        pattern: the first match of a regular expression, or of its first group.
        first_word: the first word that is neither a stop word or its contraction nor an adverb in -ly (English).
        clusters: the number of groups into which the reader's own mean states after its last layer fall.
        function: `module:function` of yours, which takes a text and returns a label, None, or (label, start, end) with
            the characters of its word. It is imported and run: name only code that you trust.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _-]*$")]
    world: Literal["topic", "arc", "hero"] | None = None
    words: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=2)] | None = None
    pattern: str | None = None
    first_word: bool = False
    clusters: Annotated[int, Field(ge=2)] | None = None
    function: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> LabelSpec:
        given = [key for key, value in self if key != "name" and value not in (None, False)]
        if len(given) != 1:
            ways = "world, words, pattern, first_word, clusters or function"
            raise ValueError(f"label '{self.name}' has {' and '.join(given) or 'no way'}: give exactly one of {ways}")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"label '{self.name}': {self.pattern!r} is no regular expression ({error})") from None
        return self

    def labeller(self) -> Labeller:
        """The function from a text to its label.

        Raises:
            StudyError: the user's function cannot be imported, or the label is one of clusters.
        """
        return _labeller(self)

    def word_for(self, value: str, surface: str, like: str) -> str | None:
        """A word that tells another label, to be put where `like` is; None where one word does not tell it.

        Args:
            value: the other label.
            surface: the word that told it in another text.
            like: the word that is replaced.
        """
        if self.world == "topic":
            kind = next((kind for kind in TOPICS[value]._fields if like in _words_of(kind)), None)
            return value if kind is None else str(getattr(TOPICS[value], kind)[_words_of(kind)[like]])
        return None if self.world == "arc" or self.clusters is not None else surface or None


@cache
def _words_of(kind: str) -> dict[str, int]:
    """Content words of a kind -> their place within their topic."""
    return {word: i for topic in TOPICS.values() for i, word in enumerate(getattr(topic, kind))}


def _labeller(spec: LabelSpec) -> Labeller:
    if spec.world is not None:
        return {"topic": _topic, "arc": _arc, "hero": _hero}[spec.world]
    if spec.words is not None:
        words = "|".join(re.escape(word) for word in sorted(spec.words, key=len, reverse=True))
        return _matching(re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE))
    if spec.pattern is not None:
        return _matching(re.compile(spec.pattern))
    if spec.first_word:
        return _first_word
    if spec.function is not None:
        return _user_function(spec.function)
    raise StudyError(f"label '{spec.name}' is by clusters, which need the reader's states")


def _topic(text: str) -> Label | None:
    topic = grade(text).topic
    if topic is None:
        return None
    first = next((m for m in _WORD.finditer(text) if m[0] == topic or TOPIC_OF.get(m[0]) == topic), None)
    return Label(topic, *(first.span() if first else ()))


def _arc(text: str) -> Label | None:
    arc = grade(text).arc
    if arc is None:
        return None
    first = next(s for s in split_sentences(text) if (parsed := parse_sentence(s)) and parsed.arc == arc)
    start = text.index(first)
    return Label(arc, start, start + len(first))


def _hero(text: str) -> Label | None:
    hero = next((p.hero for s in split_sentences(text) if (p := parse_sentence(s)) and p.hero in HEROES), None)
    match = re.search(rf"\b{hero}\b", text) if hero else None
    return Label(match[0], *match.span()) if match else None


def _matching(pattern: re.Pattern[str]) -> Labeller:
    group = 1 if pattern.groups else 0

    def label(text: str) -> Label | None:
        match = pattern.search(text)
        return Label(match[group].casefold(), *match.span(group)) if match and match[group] else None

    return label


def _first_word(text: str) -> Label | None:
    match = next((m for m in _WORD.finditer(text) if not _says_nothing(m[0])), None)
    return Label(match[0].casefold(), *match.span()) if match else None


def _says_nothing(word: str) -> bool:
    """Whether it is a stop word, a contraction of one (I'm, that's) or an adverb in -ly."""
    return re.split("['’]", word.casefold())[0] in _STOP_WORDS or word.endswith("ly")


def _user_function(name: str) -> Labeller:
    module, _, function = name.partition(":")
    try:
        given = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise StudyError(f"label function '{name}' cannot be imported: {error}; is its folder on PYTHONPATH?") from None

    def label(text: str) -> Label | None:
        value = given(text)
        if value is None or value == "":
            return None
        return Label(value) if isinstance(value, str) else Label(str(value[0]), int(value[1]), int(value[2]))

    return label
