"""The imitation arm of `controls`: what would a text that no reader wrote get?

For each model of the matrix texts are made that have the model's distribution, or less of it, without the model as
their author. They are read by all of the matrix, as the model's own text is. What an imitation gets is the recognition
of the table in which every own text is replaced by its imitation; what own text has beyond it is the difference; and
surprisal less entropy says whether the reader tells the two apart.
"""
