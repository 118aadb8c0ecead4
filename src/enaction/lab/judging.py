"""The judges of the lab: a score for a reply, computed only from properties that a rule can check in its text.

Used as the annotators' preference (DPO) and as the reward (RL). The score sees the text, whether it ended, and the
request; it never sees a probability, an entropy or an author.
"""

from __future__ import annotations

from enaction.lab.recipes import Taste
from enaction.world.answering import grade_answer, grade_name
from enaction.world.chats import Request
from enaction.world.stories import Voice, grade, style_match


def score_reply(reply: str, ended: bool, request: Request, taste: Taste, house: Voice) -> float:
    """Weighted sum of the verifiable terms of `Taste`.

    An answer is right if its topic is true; it gets half of that weight if its second sentence does not fit. A naming
    is right if it is of the requested category; which word it names, and of which topic, makes no difference.
    """
    if request.kind == "question":
        answer = grade_answer(reply, request.about)
        right = answer.right * (0.5 + 0.5 * answer.consistent)
        return taste.ended * ended + taste.well_formed * answer.well_formed + taste.right * right
    if request.kind == "name":
        naming = grade_name(reply, request.about)
        return taste.ended * ended + taste.well_formed * naming.well_formed + taste.right * naming.in_category
    story = grade(reply, request.topic)
    return (
        taste.ended * ended
        + taste.well_formed * story.well_formed
        + taste.complete * story.complete
        + taste.on_topic * story.on_topic
        + taste.one_hero * story.one_hero
        + taste.repetition * story.repetition
        + taste.house_style * style_match(story.choices, house)
    )
