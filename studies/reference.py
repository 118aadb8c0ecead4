"""Write docs/studies.md, the reference of every key that a study file may have, from the classes that check it.

python studies/reference.py            # writes the page
python studies/reference.py --check    # exit code 1 if the page is not what would be written
"""

# ruff: noqa: E501  # rows of a Markdown table cannot be wrapped

from __future__ import annotations

import inspect
import json
import re
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from enaction.experiments import EXPERIMENTS
from enaction.experiments.commitment.labels import LabelSpec
from enaction.passages import Sampling
from enaction.study.config import ModelSpec, Study

PAGE = Path(__file__).parents[1] / "docs" / "studies.md"

_OPENING = """# Studies: every key of a study file

This page lists every key that a study file can have, with its default. A study file is YAML; it names models
and prompts, and everything else has a default. The [tutorial](tutorial.md) shows one with its output. The
smallest:

```yaml
name: first
models:
  llama: meta-llama/Llama-3.2-1B-Instruct
  qwen: Qwen/Qwen2.5-1.5B-Instruct
prompts: prompts.jsonl
```

`enaction run first.yaml` runs it and writes `runs/first`. With three or more models there is a verdict for
each reader; two share one number. A key that does not exist is refused, and the message names the nearest one
that does. Paths are relative to the study file.

This page is generated from the code by `python studies/reference.py`; a test says when it is out of date.
"""

_GROWTH = """## A run grows

A run folder that exists is resumed, also after its study file has changed. Each text and each cell notes in its file
what it was made from: weights, tokenizer and template of the model, its settings, the seed, the sampling settings, the
prompts with their words, and the texts that it was made of. That decides what is kept, never the name of a file.

| change | what happens |
|---|---|
| another model, framing or experiment | its texts and cells are added; the others are kept |
| more prompts (a longer file, a larger `n_prompts`) | new prompts are answered and read; answers that exist are kept, and so are their token rows. A larger `n_prompts` is spread over the file anew: a prompt that is no longer among them is left out |
| a larger `sampling.per_prompt` | the further responses are sampled and read |
| a larger `sampling.max_new_tokens` | responses that ended by themselves are kept; those that the limit had cut off are sampled anew, from the same random numbers, and so begin with the same tokens |
| settings of an experiment | texts that follow from them are made anew; of their passages and readings those that are the same are kept |
| `resamples`, `matrices`, `stage`, `family` | the analysis is done again |
| `device`, `batch_size`, `workers`, another folder of the same weights | nothing |

The result is that of a run made at once, within the rounding of batches: the tokens are the same, and statistics differ
by a few units in the last place of float32, as they do with another batch size. Texts made of others (shuffled, moved)
are made anew without a model. The command says which texts it writes again, and why.

Refused, with the key and both values: another `name`, `seed`, `separator`, `temperature` or `top_p`; other weights,
tokenizer files, template, `dtype` or settings of a model; other words of a prompt; fewer prompts, shorter or fewer
responses; a model, framing or experiment that is missing. Each would change or forget what the run holds: put it back,
or give `--out` another folder. Runs of versions that made no such notes are resumed and gain experiments, no more.

One command at a time works in a run folder; `enaction report` may read it at any time. The study.yaml in a run folder
is a study file like any other; its paths are relative to that folder, so that a run can be moved with its study.
"""

_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", Any: "anything"}
_PARTS = {
    ModelSpec: "[model](#a-model)",
    Sampling: "[settings](#sampling)",
    LabelSpec: "[label](#a-label-of-commitment)",
}
_BOUNDS = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))


def page() -> str:
    """The page as Markdown."""
    parts = [
        _OPENING,
        _section("The study", Study, ()),
        _section("A model", ModelSpec, ("An entry of `models`. `NAME: MODEL` is short for `NAME: {model: MODEL}`.",)),
        _section("sampling", Sampling, ("How the models' own text is written.",)),
        "## Experiments\n\nAn entry of `experiments`, with its settings; `experiments: [matrix, stages]` takes the "
        "defaults.\n",
    ]
    for name, experiment in EXPERIMENTS.items():
        guide = f"experiments/{name}.md"
        linked = f" [More]({guide})." if (PAGE.parent / guide).is_file() else ""
        parts.append(_section(name, experiment, (f"{experiment.asks}{linked}",), level="###"))
        if name == "commitment":
            words = ("An entry of `labels`; exactly one key beside its name.",)
            parts.append(_section("A label of commitment", LabelSpec, words, level="####"))
    parts.append(_GROWTH)
    return "\n".join(parts)


def _section(title: str, of: type[BaseModel], words: Iterable[str], level: str = "##") -> str:
    meanings = _meanings(of)
    missing = [key for key in of.model_fields if key not in meanings]
    if missing:
        raise SystemExit(f"the docstring of {of.__name__} says nothing of {', '.join(missing)}")
    rows = [
        f"| `{key}` | {_kind(field)} | {_default(field)} | {meanings[key]} |" for key, field in of.model_fields.items()
    ]
    table = ["| key | value | default | meaning |", "|---|---|---|---|", *rows]
    return "\n".join([f"{level} {title}", "", *(f"{sentence}\n" for sentence in words), *table, ""])


def _meanings(of: type[BaseModel]) -> dict[str, str]:
    """Key -> what the class says of it under `Attributes`; two keys may share a line."""
    _, _, listed = inspect.cleandoc(of.__doc__ or "").partition("Attributes:\n")
    meanings = {}
    for entry in re.split(r"\n(?=    \S)", listed.rstrip()):
        names, _, meaning = " ".join(entry.split()).partition(": ")
        for name in names.split(", "):
            meanings[name] = meaning.replace("|", "\\|")
    return meanings


def _kind(field: FieldInfo) -> str:
    """What a value is, with its bounds."""
    return _shown(field.annotation, field.metadata)


def _shown(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    bounds = [f"{words} {_number(getattr(m, name))}" for m in metadata for name, words in _BOUNDS if hasattr(m, name)]
    bounds += [f"{m.min_length} or more" for m in metadata if hasattr(m, "min_length")]
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = parts[1:]
        # Constraints of pydantic's Field are inside of it.
        return _shown(parts[0], [m for part in inner for m in getattr(part, "metadata", [part])])
    if origin in (Union, types.UnionType):
        text = " or ".join(dict.fromkeys("null" if p is types.NoneType else _shown(p) for p in parts))
    elif origin is Literal:
        text = ", ".join(f"`{value}`" for value in parts)
    elif origin is dict:
        text = f"mapping: {_shown(parts[0])} → {_shown(parts[1])}"
    elif origin in (list, tuple):
        text = f"list of {_shown(parts[0])}"
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        text = _PARTS[annotation]
    else:
        text = _WORDS[annotation]
    return ", ".join([text, *bounds])


def _number(bound: float) -> str:
    """A bound as people read it."""
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


def _default(field: FieldInfo) -> str:
    """The default as YAML would hold it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or value == "":
        return "see there" if isinstance(value, BaseModel) else "see text"
    if isinstance(value, str) and not value.isprintable():
        return f"`{json.dumps(value)}`"
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=10_000).removesuffix("\n").removesuffix("\n...")
    return f"`{text}`"


def main() -> None:
    """Write the page, or say whether it is current."""
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == page() else f"{PAGE} is out of date: {__doc__}")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
