"""docs/studies.md says what the classes that check a study say."""

from __future__ import annotations

import re

import yaml

from enaction.experiments import EXPERIMENTS
from enaction.study.config import ModelSpec, Study
from studies.reference import PAGE, page


def test_the_reference_of_study_files_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python studies/reference.py`"


def test_every_key_has_a_row_with_a_meaning() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", page(), re.MULTILINE))
    for of in (Study, ModelSpec, *EXPERIMENTS.values()):
        for key in of.model_fields:
            assert len(rows[key]) > 5, key


def test_the_smallest_study_of_the_page_is_one() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", page(), re.DOTALL)
    study = Study.model_validate(yaml.safe_load(text))
    assert study.groups() == {"model": ["llama", "qwen"]}
