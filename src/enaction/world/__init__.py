"""The embedded world: the words, stories, chats and answers that the zoo's models are trained on and answer.

Only data and generators, so that experiments and the zoo can use them without the training room (`lab`).
"""
