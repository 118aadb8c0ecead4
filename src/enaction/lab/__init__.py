"""The lab: the training of the embedded models on the embedded world (`enaction.world`).

Families of small models are trained through base, SFT, DPO and RL. No objective in this room looks at the entropy of
any text or at who wrote it.
"""
