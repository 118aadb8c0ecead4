"""The lab: a small world with known truth, and the training that turns it into the embedded models.

The world writes short stories from latent variables (topic, arc, hero, voice). Families of small models are taken
through base, SFT, DPO and RL on it. No objective in this room looks at the entropy of any text or at who wrote it.
"""
