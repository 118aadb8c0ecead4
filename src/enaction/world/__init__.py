"""The embedded world: the words, stories, chats and answers that the zoo's models are trained on and asked about.

Pure data and generators, so that experiments and the zoo can use them without anything of the training room (`lab`).
"""
