"""A study: a declared set of measurements, its plan, its run folder and the engine that carries it out."""
