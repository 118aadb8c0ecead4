"""The judges of the lab: a score for a reply, made only of what can be checked in its text by rule.

Used as the annotators' preference (DPO) and as the reward (RL). It sees the text, whether it ended, and the request; it
never sees a probability, an entropy or an author.
"""

from __future__ import annotations

from enaction.lab.recipes import Taste
from enaction.world.answering import grade_answer, grade_name
from enaction.world.chats import Request
from enaction.world.stories import Voice, grade, style_match


def score_reply(reply: str, ended: bool, request: Request, taste: Taste, house: Voice) -> float:
    """Weighted sum of the verifiable terms of `Taste`.

    An answer is right if its topic is true, and half of that is lost if its second sentence does not fit. A naming is
    right if it is of the category asked for; which word, and of which topic, makes no difference.
    """
    if request.kind == "question":
        answer = grade_answer(reply, request.about)
        right = answer.right * (0.5 + 0.5 * answer.consistent)
        return taste.ended * ended + taste.well_formed * answer.well_formed + taste.right * right
    if request.kind == "name":
        naming = grade_name(reply, request.about)
        return taste.ended * ended + taste.well_formed * naming.well_formed + taste.right * naming.in_category
    found = grade(reply, request.topic)
    return (
        taste.ended * ended
        + taste.well_formed * found.well_formed
        + taste.complete * found.complete
        + taste.on_topic * found.on_topic
        + taste.one_hero * found.one_hero
        + taste.repetition * found.repetition
        + taste.house_style * style_match(found.choices, house)
    )
