from enaction.experiments.framings.analysis import *  # noqa: F403
