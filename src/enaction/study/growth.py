"""What may change in the study of a run: it grows, and it does not become another.

A run may gain models, framings, experiments and prompts, more and longer responses, and other settings of its analysis.
What changes the meaning of a text that it holds is refused by name, and so is what would forget something that it has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from enaction.passages import Prompt
from enaction.study import recipes
from enaction.study.config import ModelSpec, Study
from enaction.study.names import plain

# Another value of these is another study: texts follow from them.
_FIXED = ("name", "seed", "separator", "sampling.temperature", "sampling.top_p")
_FIXED_OF_MODEL = [key for key in ModelSpec.model_fields if key not in recipes.ELSEWHERE]
# These may become larger.
_RISING = ("sampling.per_prompt", "sampling.max_new_tokens")
# What these name may be added to.
_GAINING = ("models", "experiments", "framings")
# These may be turned on.
_SWITCHES = ("world_text", "cross_stage")
# Where a model runs changes nothing in what it says.
_PLACE = re.compile(r"models\..+\.device(_map(\..*)?)?$")
_WORDS = {"weights": "weights", "tokenizer": "files of the tokenizer", "chat_template": "chat template"}


def only_experiments_were_added(old: Study, new: Study) -> bool:
    """Whether a run of the old study is the beginning of one of the new by what both say, without a look at files."""
    before, now = old.model_dump(mode="json"), new.model_dump(mode="json")
    for model in (*before["models"].values(), *now["models"].values()):
        for place in ("device", "device_map"):  # a run resumes on another machine
            del model[place]
    kept = {name: now["experiments"].get(name) for name in before["experiments"]}
    return before == now | {"experiments": kept}


def differences(old: Study, new: Study) -> Iterator[str]:
    """Each key in which the studies differ, with both values."""
    before, now = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    for key in before | now:
        if before.get(key) != now.get(key) and not _PLACE.match(key):
            yield f"{key} is {_shown(before.get(key))} there and {_shown(now.get(key))} here"


def obstacles(old: Study, new: Study) -> Iterator[str]:
    """What keeps a run of the old study from becoming one of the new, by what both say."""
    before, now = old.model_dump(mode="json"), new.model_dump(mode="json")
    for group in _GAINING:
        missing = [name for name in before[group] if name not in now[group]]
        if missing:
            yield f"{group}: it has {', '.join(missing)}, which this one has not"
    fixed = [*_FIXED, *(f"models.{name}.{key}" for name in old.models if name in new.models for key in _FIXED_OF_MODEL)]
    for key in (*fixed, *_RISING, *_SWITCHES):
        was, is_ = _at(before, key), _at(now, key)
        may = is_ > was if key in _RISING else is_ and not was if key in _SWITCHES else False
        if was != is_ and not may:
            yield f"{key} is {_shown(was)} there and {_shown(is_)} here"


def changed_models(written: Mapping[str, recipes.Recipe], new: Study) -> Iterator[str]:
    """Models whose files are others than those that wrote the run's texts.

    Args:
        written: model -> its recipe when it wrote.
        new: the study now.
    """
    for name, then in written.items():
        if name in new.models:
            now = recipes.writer(new.models[name])
            for key in recipes.differing(then, now):
                what = _WORDS.get(key, key)
                was, is_ = (_shown(side.get(key)) for side in (then, now))
                model = new.models[name].model
                yield f"models.{name}: the {what} of {model} were {was} when it wrote and are {is_} now"


def changed_prompts(answered: Sequence[Prompt], study: Study, prompts: Sequence[Prompt]) -> Iterator[str]:
    """Prompts that the run answered and that are others now, or none.

    Args:
        answered: by the run.
        study: now.
        prompts: of the study.
    """
    now = {prompt.id: prompt for prompt in prompts}
    if len(prompts) < len(answered):
        yield f"prompts: it answered {len(answered)}, and here are {len(prompts)}"
        return
    if any(prompt.id not in now for prompt in answered):  # others of the same file may be taken
        now |= {prompt.id: prompt for prompt in study.model_copy(update={"n_prompts": None}).load_prompts()}
    for prompt in answered:
        if prompt.id not in now:
            yield f"prompts: {study.prompts} has no prompt '{plain(prompt.id)[:60]}', which it answered"
            return
        if list(now[prompt.id].messages) != list(prompt.messages):
            was, is_ = (_shown([m["content"] for m in of.messages]) for of in (prompt, now[prompt.id]))
            yield f"prompts: '{plain(prompt.id)[:60]}' is {was} there and {is_} here"
            return


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {key: value}
    return {k: v for name, item in value.items() for k, v in _flat(item, f"{key}.{name}".lstrip(".")).items()}


def _at(study: dict[str, Any], key: str) -> Any:
    """The value of a key with dots; names of models have dots too."""
    head, _, rest = key.partition(".")
    if head == "models":
        name, _, last = rest.rpartition(".")
        return study["models"][name][last]
    return _at(study[head], rest) if rest else study[head]


def _shown(value: Any) -> str:
    text = plain(value if isinstance(value, str) else repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
