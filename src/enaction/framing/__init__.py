"""Framing: how a passage is put before a reader, as token ids with the measured span marked.

The one idea: a response is located by rendering the chat template with a sentinel in it, never by searching for the
response's words. What precedes the sentinel is the context, what follows it is the end of the turn, and a response
has to come out of the template between exactly these two, whole or with its outer white space stripped. Sentinels in
all other messages tell whether the template shows them.

Two paths lead to ids. A model's own text has token ids, and these are the truth: they follow the ids of the generation
prompt and are never tokenised again. Any other text is tokenised together with what precedes it, and the measured
tokens are located by character offsets. A token that straddles the boundary is measured if it contains at least
one character of the response; its context is then everything before it. Sampling and reading share this path, so that
a model reads its own text after the very ids it wrote it after.

Nothing here changes the tokenizer. A template that asks for today's date gets `TEMPLATE_DATE`, whatever the day:
otherwise the same text would be read in another context tomorrow, and own text in another one than it was written in.

`template` renders conversations, `slots` finds where a response goes, `ids` turns text into ids and says what ids mean,
`frames` puts these together, `drift` counts what re-tokenising would change, `texts` gives each token its text.
"""

from enaction.framing.drift import retokenisation_drift
from enaction.framing.frames import Framed, FramedPrompt, beginning_ids, frame, frame_prompt
from enaction.framing.ids import special_ids, tokenizer_fingerprint
from enaction.framing.slots import Habits, template_habits
from enaction.framing.template import (
    TEMPLATE_DATE,
    opening,
    read_template,
    render,
    template_date,
    template_of,
    with_switches,
)
from enaction.framing.texts import Decode, token_texts
from enaction.words import FRAMINGS, Framing

__all__ = [
    "FRAMINGS",
    "TEMPLATE_DATE",
    "Decode",
    "Framed",
    "FramedPrompt",
    "Framing",
    "Habits",
    "beginning_ids",
    "frame",
    "frame_prompt",
    "opening",
    "read_template",
    "render",
    "retokenisation_drift",
    "special_ids",
    "template_date",
    "template_habits",
    "template_of",
    "token_texts",
    "tokenizer_fingerprint",
    "with_switches",
]
