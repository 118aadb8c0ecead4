from enaction.experiments.stages.analysis import *  # noqa: F403
