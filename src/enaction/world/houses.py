"""The house voices of the families: what their SFT demonstrates, and what no writer of pretraining has.

They are part of the world, not of the lab, so that a study can have text in a family's house voice that no model wrote.
"""

from __future__ import annotations

import numpy as np

from enaction.world.stories import Voice

# Family -> seed of its house voice; a near-clone shares the voice of its relative.
HOUSE_SEEDS = {"ash": 11, "birch": 22, "cedar": 33, "ash2": 11}
HOUSE_SCALE = 1.8


def house_voice(seed: int, scale: float = HOUSE_SCALE) -> Voice:
    """The house voice of a seed."""
    return Voice(scale, np.random.default_rng([seed, 7]))
