from enaction.experiments.matrix.analysis import *  # noqa: F403
