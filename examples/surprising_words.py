"""Where does a model not expect what a text says? Its most surprising tokens, each with its passage.

    python examples/surprising_words.py                            # stories of another embedded model
    python examples/surprising_words.py chats.jsonl Qwen/Qwen2.5-1.5B-Instruct

The file may be JSON lines, a JSON array, Parquet, CSV or plain text; conversations are read at every reply.
"""

from __future__ import annotations

import sys

import enaction
from enaction import zoo

if len(sys.argv) == 3:
    passages, model = enaction.read_passages(sys.argv[1]), sys.argv[2]
else:
    model = "zoo:birch-rl"
    passages = enaction.sample(enaction.Reader.load("zoo:ash-rl"), zoo.prompts()[:4], max_new_tokens=60)

reader = enaction.Reader.load(model)
print(reader)
rows = enaction.score_passages(reader, passages).to_pylist()
for row in sorted(rows, key=lambda row: -row["surprisal"])[:10]:
    token = reader.tokenizer.decode([row["token_id"]])
    print(
        f"{row['surprisal']:5.2f} nats where {row['entropy']:4.2f} were expected: {token!r}, "
        f"token {row['position']} of {row['author']}'s {row['passage_id']}"
    )
