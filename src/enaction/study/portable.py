"""Paths of a study in its run: relative to the run folder, so that both can be moved and nothing names this machine.

The study.yaml of a run is a study file like any other: its relative paths are relative to the folder that it is in.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from enaction.study.config import Study

_RELATIVE = ("./", "../")


def with_relative_paths(study: Study, folder: Path) -> Study:
    """The study with its absolute paths relative to a run folder, where the two have a folder in common."""

    def relative(value: Any) -> Any:
        return _relative(value, folder) if isinstance(value, str) and Path(value).is_absolute() else value

    models = {
        name: spec.model_copy(
            update={
                "model": relative(spec.model),
                "chat_template": Path(relative(str(spec.chat_template))) if spec.chat_template else None,
                "base": Path(relative(str(spec.base))) if spec.base else None,
            }
        )
        for name, spec in study.models.items()
    }
    return _with_settings(study, relative).model_copy(update={"models": models, "prompts": relative(study.prompts)})


def with_absolute_settings(study: Study, folder: Path) -> Study:
    """The study with the paths in its experiments' settings, as `with_relative_paths` wrote them, made absolute."""
    return _with_settings(
        study,
        lambda value: (
            str((folder / value).resolve()) if isinstance(value, str) and value.startswith(_RELATIVE) else value
        ),
    )


def shown_path(name: str, folder: Path) -> str:
    """A model's name for people: a path relative to the run folder, or its last part where they are far apart."""
    if not Path(name).is_absolute():
        return name
    relative = _relative(name, folder)
    return relative if relative != name else Path(name).name


def _relative(path: str, folder: Path) -> str:
    """With `./` or `../` in front; the path itself if the two have nothing but the root in common."""
    here = str(folder.resolve())
    try:
        common = os.path.commonpath([path, here])
    except ValueError:  # other drives
        return path
    if common == Path(common).anchor:
        return path
    relative = Path(os.path.relpath(path, here)).as_posix()
    return relative if relative.startswith("../") else f"./{relative}"


def _with_settings(study: Study, change: Callable[[Any], Any]) -> Study:
    experiments = {
        name: {key: change(value) for key, value in given.items()} for name, given in study.experiments.items()
    }
    return study.model_copy(update={"experiments": experiments})
