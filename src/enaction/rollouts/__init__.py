"""Rollouts: sampled answers with the log-probabilities that samplers and trainers kept, read from files of any kind.

`streams` gives rows, `formats` opens those that hold objects or several answers, `aliases` finds the columns by name,
`numbers` and `building` make a `Rollout` of them, `files` puts these together.
"""

from enaction.rollouts.aliases import NAMED as NAMED
from enaction.rollouts.files import read_rollouts as read_rollouts
from enaction.rollouts.types import Rollout as Rollout
from enaction.rollouts.types import Span as Span
