"""Analysis: the data of a finished run, the measures that experiments share, and the ledger that writes findings.

Nothing here needs a model: token tables and passages of a run folder come in, findings go out.
"""
