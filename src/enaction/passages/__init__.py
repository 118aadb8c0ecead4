"""Passages: what is read.

A passage is one response text to one prompt, with its author, the settings it was sampled with, and the author's own
token ids and log-probabilities where they exist. Token ids are the truth for a model's own text: the response string is
what a person reads, and what a reader with another tokenizer has to re-tokenise.

`types` holds the data types, `rows` makes them from one JSON object, `shapes` makes such objects of the rows of other
programs, `tables` reads rows from files of any kind and `data_sets` those of Hugging Face, `files` puts these together
and writes JSON lines and Parquet. This room knows nothing of models.
"""

from enaction.passages.data_sets import is_hub_id
from enaction.passages.files import each_passage, first_sampling, read_passages, read_prompts, write_passages
from enaction.passages.tables import STDIO
from enaction.passages.types import (
    SAMPLING_KEYS,
    Message,
    Passage,
    Prompt,
    Sampling,
    prompt_hash,
    thinned,
    worded_extras,
)

__all__ = [
    "SAMPLING_KEYS",
    "STDIO",
    "Message",
    "Passage",
    "Prompt",
    "Sampling",
    "each_passage",
    "first_sampling",
    "is_hub_id",
    "prompt_hash",
    "read_passages",
    "read_prompts",
    "thinned",
    "worded_extras",
    "write_passages",
]
