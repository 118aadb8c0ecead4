"""Recipes: what a text or a cell follows from, as plain data that is stored in its file.

A study may grow after a run of it began. What the run holds is then taken or made anew by what it was made from, never
by the name of its file: the recipe in a file is compared with the one that the study has now.

A recipe is a dictionary. `None` stands for what cannot be looked at here, such as the weights of a model that is not on
this machine, and agrees with everything.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from enaction.errors import UserError
from enaction.files import write_atomically
from enaction.framing import read_template
from enaction.passages import Passage, Prompt
from enaction.reader.sources import find
from enaction.study.config import ModelSpec, Study

Recipe = dict[str, Any]

# Beside the weights these files say how text becomes ids, how a conversation is put, and where a response ends.
_OF_TOKENIZER = ("*.jinja", "*.json", "*.model", "*.txt")
# Keys of a model that change nothing that it writes or reads, or whose files are looked at instead.
ELSEWHERE = {"model", "family", "stage", "chat_template", "base", "device", "device_map", "server"}
_NOT_OF_TOKENIZER = ("config.json", "adapter_config.json", "base.json", "model.safetensors.index.json")


def writer(spec: ModelSpec, *, looks: bool = True) -> Recipe:
    """What fixes what a model writes and reads.

    Args:
        spec: of the model.
        looks: look at files; without it, what is in files agrees with everything.
    """
    weights, tokenizer = _fingerprints(spec) if looks else (None, None)
    settings = spec.model_dump(mode="json", exclude=ELSEWHERE | {"template_options"})
    return {
        "weights": weights,
        "tokenizer": tokenizer,
        "chat_template": _template(spec) if looks else None,
        # As text, since no options do not agree with some, nor one that is null with one that is not.
        "options": json.dumps(spec.template_options, sort_keys=True),
        **{key: "" if value is None else value for key, value in settings.items()},
    }


def reader(study: Study, name: str, *, looks: bool = True) -> Recipe:
    """What fixes what a model of a study finds in a text."""
    return {"writer": writer(study.models[name], looks=looks), "separator": study.separator}


def shared(study: Study) -> Recipe:
    """What all texts of a study share. The number of responses and their limit are among it, not the batch size."""
    return {
        "seed": study.seed,
        "separator": study.separator,
        "sampling": study.sampling.model_dump(mode="json", exclude={"batch_size"}),
    }


def agree(one: Any, other: Any) -> bool:
    """Whether two recipes are of the same thing, as far as both say: a later version may say more."""
    if one is None or other is None:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return all(agree(value, other.get(key)) for key, value in one.items())
    return one == other


def differing(one: Recipe, other: Recipe) -> list[str]:
    """The keys in which two recipes do not agree."""
    return [key for key in one if not agree(one[key], other.get(key))]


def of_prompts(prompts: Iterable[Prompt]) -> str:
    """Content address of prompts: their names, order and messages."""
    return _sha256(json.dumps([[prompt.id, prompt.messages] for prompt in prompts], sort_keys=True))


def of_passages(passages: Sequence[Passage]) -> str:
    """Content address of a text: everything that its passages hold."""
    rows = (
        [
            *(
                p.id,
                p.prompt_id,
                p.prompt,
                p.response,
                p.author,
                p.sampling,
                p.token_ids,
                p.tokenizer,
                p.ended,
                p.marks,
            ),
            p.logprobs if p.token_ids is not None else None,  # files keep none without ids
        ]
        for p in passages
    )
    return _sha256("\n".join(json.dumps(row, sort_keys=True) for row in rows))


def as_read(passage: Passage) -> str:
    """Content address of what a reader sees of a passage: two that share it have the same token rows."""
    framing = passage.sampling.get("framing")
    row = [passage.id, passage.prompt_id, passage.prompt, passage.response, passage.author, framing]
    return _sha256(json.dumps([*row, passage.token_ids, passage.tokenizer, passage.ended], sort_keys=True))[:16]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _fingerprints(spec: ModelSpec) -> tuple[str | None, str | None]:
    """Of the weights and of the tokenizer, None for what is not on this machine."""
    try:
        source = find(spec.model)
    except UserError:
        return None, None
    if source.kind == "hub":
        commit = _commit(source.location, source.revision)
        return (f"{source.location}@{commit}" if commit else None), None
    if not source.files:
        return None, None
    folder = Path(source.location)
    others = {path for pattern in _OF_TOKENIZER for path in folder.glob(pattern)} if folder.is_dir() else set()
    others = {path for path in others if path.name not in _NOT_OF_TOKENIZER}
    return _digest(source.files), _digest(sorted(others))


def _commit(location: str, revision: str | None) -> str | None:
    """The commit of a hub's model that is in the cache."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(location, "config.json", revision=revision)
    return Path(path).parent.name if isinstance(path, str) else None


def _template(spec: ModelSpec) -> str | None:
    """Content address of the template that replaces the tokenizer's own; empty if none does."""
    if spec.chat_template is None:
        return ""
    try:
        return _sha256(read_template(spec.chat_template))
    except UserError:
        return None


def _digest(paths: Iterable[Path]) -> str | None:
    try:
        return _sha256("\n".join(f"{path.name} {_of_file(path, *_stamp(path))}" for path in paths))[:16]
    except OSError:
        return None


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=4096)
def _of_file(path: Path, size: int, time: int) -> str:
    """SHA-256 of a file of this size and time: gigabytes are read once, see `recall`."""
    key = _sha256(f"{path.absolute()} {size} {time}")
    if key not in _LARGE:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if size < _LARGEST_UNNOTED:
            return sha256
        _LARGE[key] = sha256
    return _LARGE[key]


# Content addresses of large files by path, size and time; of the paths it holds hashes alone.
_LARGE: dict[str, str] = {}
_LARGEST_UNNOTED = 2**26  # bytes


def recall(path: Path) -> None:
    """Take the content addresses of large files from where `note` has put them."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        _LARGE.update({str(key): str(value) for key, value in noted.items()})
    except (OSError, ValueError, AttributeError):
        return  # they are computed again


def note(path: Path) -> None:
    """Put the content addresses of large files into a file, so that the next process need not read gigabytes."""
    text = json.dumps(_LARGE) + "\n"
    if _LARGE and not (path.is_file() and path.read_text(encoding="utf-8") == text):
        with write_atomically(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
