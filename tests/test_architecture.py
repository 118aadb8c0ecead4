"""docs/architecture.md is right: the experiment that it shows, added as it says, runs through the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import tiny

import enaction

PACKAGE = Path(enaction.__file__).parent
PAGE = PACKAGE.parents[1] / "docs" / "architecture.md"


def test_the_experiment_of_the_page_takes_its_folder_and_one_line_of_the_registry(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "src" / "enaction", ignore=shutil.ignore_patterns("models", "__pycache__"))
    files = dict(
        re.findall(r"^`(src/[^`]+\.py)`:\n\n```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    )
    assert sorted(Path(name).name for name in files) == ["__init__.py", "texts.py"]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    registry = tmp_path / "src" / "enaction" / "experiments" / "__init__.py"
    text = registry.read_text()
    text = text.replace(
        "from enaction.findings", "from enaction.experiments.shouting import Shouting\nfrom enaction.findings", 1
    )
    registry.write_text(text.replace("        Matrix,\n", "        Matrix,\n        Shouting,\n", 1))

    tokenizer = tiny.word_tokenizer()
    tiny.llama(len(tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "prompts.jsonl").write_text(
        "".join(
            json.dumps({"id": f"p{i}", "prompt": f"tell me about the {word}"}) + "\n"
            for i, word in enumerate(["fox", "house", "night"])
        )
    )
    (tmp_path / "study.yaml").write_text(
        "name: shout\nmodels: {m: {model: ./model, family: m}}\nprompts: prompts.jsonl\nexperiments: [shouting]\n"
        "sampling: {per_prompt: 1, max_new_tokens: 12}\nresamples: 100\n"
    )
    command = [sys.executable, "-c", "from enaction.cli import main; main()", "run", "study.yaml", "--out", "run"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "m: shouting changes entropy by" in done.stdout
    (finding,) = json.loads((tmp_path / "run" / "findings.json").read_text())
    assert (finding["experiment"], finding["quantity"], finding["null"]) == ("shouting", "shouting_effect", 0.0)
    assert finding["low"] <= finding["estimate"] <= finding["high"]
    assert "shouting changes entropy by" in (tmp_path / "run" / "report.html").read_text()


def test_every_import_that_the_docs_show_exists() -> None:
    pages = [*PAGE.parent.rglob("*.md"), PACKAGE.parents[1] / "README.md"]
    lines = {
        line for page in pages for line in re.findall(r"^(?:from enaction\S* )?import .+$", page.read_text(), re.M)
    }
    shown = sorted(line for line in lines if "enaction" in line and "shouting" not in line)
    assert len(shown) > 5
    exec("\n".join(shown), {})
