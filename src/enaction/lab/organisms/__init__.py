"""Organisms: small models whose mechanism is designed, so that an experiment has an answer to return.

`symbols` designs processes over a small alphabet, `plans` stories whose topic is settled at a known place, `reports`
models whose report goes by a known route (from their `origin`, by `lessons`); `training` fits a model to designed
targets and writes what ships.
`python -m enaction.lab.organisms` builds them again.
"""
