"""Organisms: small models whose mechanism is designed, so that an experiment has an answer to return.

`symbols` designs processes over a small alphabet; `training` fits a model to designed targets and writes what ships.
`python -m enaction.lab.organisms` builds them again.
"""
