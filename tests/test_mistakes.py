"""Mistakes that a new user makes: each is one line that names the remedy, exit code 2, at once and without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest


class Mistake(NamedTuple):
    """A command line and what has to be in its one line; `$X=y` sets a variable of the environment."""

    line: str
    words: tuple[str, ...]


STUDY = "name: s\nmodels: {a: 'zoo:ash-rl', b: 'zoo:birch-rl'}\n"
REFERENCES = "x0: &x0 {k: 1}\n" + "".join(
    f"x{i}: &x{i}\n  <<: [{', '.join([f'*x{i - 1}'] * 9)}]\n" for i in range(1, 9)
)
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}

# Studies in the folder in which all commands are given, by the names of their files; these follow the lines of STUDY.
STUDIES = {
    "key": "promts: p.jsonl",
    "experiment": "experiments: [matrx]",
    "setting": "experiments: {matrix: {framing: assistant, colour: red}}",
    "no_experiment": "experiments: []",
    "framing": "framings: [asistant]",
    "framing_twice": "framings: [none, none]",
    "hot": "sampling: {temperature: hot}",
    "cold": "sampling: {temperature: -1}",
    "infinite": "sampling: {temperature: .inf}",
    "greedy": "sampling: {top_p: 0}",
    "endless": "sampling: {max_new_tokens: 10000000000}",
    "seed": "seed: -1",
    "resamples": "resamples: 10000000000",
    "few_resamples": "resamples: 1",
    "twice": "seed: 1\nseed: 2",
    "digits": f"seed: {'9' * 5000}",
    "deep": f"prompts: {'[' * 5000}{']' * 5000}",
    "merge": f"{REFERENCES}sampling:\n  <<: *x8",
    "itself": "matrices: &m\n  a: *m",
    "tag": "prompts: !!python/object/apply:os.system [ls]",
    "tab": "sampling:\n\tseed: 1",
    "two_documents": "---\nname: t",
    "month": "prompts: 2020-99-99",
    "nul": 'prompts: "a\\0b"',
    "no_prompts": "prompts: none.jsonl",
    "empty_prompts": "prompts: empty.jsonl",
    "broken_prompts": "prompts: broken.jsonl",
    "many": "n_prompts: 5000",
    "one": "n_prompts: 1",
    "separator": "separator: 5",
    "matrix": "matrices: {rl: [a, c]}",
    "world": "prompts: prompts.jsonl\nworld_text: true",
}
WHOLE_STUDIES = {
    "list": "- a\n- b",
    "nothing": "",
    "no_models": "name: s",
    "no_name": "models: {a: 'zoo:ash-rl'}",
    "model_list": "name: s\nmodels: ['zoo:ash-rl']",
    "model_none": "name: s\nmodels: {}",
    "zoo": "name: s\nmodels: {a: 'zoo:oak-rl'}",
    "folder": "name: s\nmodels: {a: ./nowhere}",
    "no_config": "name: s\nmodels: {a: ./empty}",
    "model_key": "name: s\nmodels: {a: {modle: 'zoo:ash-rl'}}",
    "dtype": "name: s\nmodels: {a: {model: 'zoo:ash-rl', dtype: int4}}",
    "device": "name: s\nmodels: {a: {model: 'zoo:ash-rl', device: gpu}}",
    "template": "name: s\nmodels: {a: {model: 'zoo:ash-rl', chat_template: none.jinja}}",
    "base": "name: s\nmodels: {a: {model: 'zoo:ash-rl', base: x.gguf}}",
    "path_name": "name: ../s\nmodels: {a: 'zoo:ash-rl'}",
    "long_name": f"name: {'x' * 300}\nmodels: {{a: 'zoo:ash-rl'}}",
    "nul_name": "name: \"a\\0b\"\nmodels: {a: 'zoo:ash-rl'}",
    "reserved": "name: s\nmodels: {mean: 'zoo:ash-rl'}",
    "case": "name: s\nmodels: {a: 'zoo:ash-rl', A: 'zoo:ash-rl'}",
    "number_name": "name: s\nmodels: {1: 'zoo:ash-rl'}",
    "twice_model": "name: s\nmodels:\n  a: 'zoo:ash-rl'\n  a: 'zoo:birch-rl'",
}
RUN = [
    Mistake("run none.yaml", ("no such study file",)),
    Mistake("run", ("missing argument", "enaction run --help")),
    Mistake("run empty", ("empty", "study file")),
    Mistake("run prompts.jsonl", ("prompts.jsonl",)),
    Mistake("run latin.yaml", ("UTF-8",)),
    Mistake("run key.yaml", ("promts", "Did you mean 'prompts'?")),
    Mistake("run experiment.yaml", ("no experiment 'matrx'", "Did you mean 'matrix'?")),
    Mistake("run setting.yaml", ("colour", "no such key")),
    Mistake("run no_experiment.yaml", ("experiments: is empty",)),
    Mistake("run framing.yaml", ("Did you mean 'assistant'?",)),
    Mistake("run framing_twice.yaml", ("twice",)),
    Mistake("run hot.yaml", ("sampling.temperature", "must be a number")),
    Mistake("run cold.yaml", ("sampling.temperature", "at least 0")),
    Mistake("run infinite.yaml", ("sampling.temperature", "finite")),
    Mistake("run greedy.yaml", ("sampling.top_p", "greater than 0")),
    Mistake("run endless.yaml", ("sampling.max_new_tokens", "at most 1,000,000")),
    Mistake("run seed.yaml", ("seed", "at least 0")),
    Mistake("run resamples.yaml", ("resamples", "at most 1,000,000")),
    Mistake("run few_resamples.yaml", ("resamples", "at least 100")),
    Mistake("run twice.yaml", ("line 4", "'seed' is given twice", "line 3")),
    Mistake("run digits.yaml", ("line 3", "5000 characters")),
    Mistake("run deep.yaml", ("line 3", "levels of nesting")),
    Mistake("run merge.yaml", ("references", "100,000 values")),
    Mistake("run itself.yaml", ("a reference", "write it out")),
    Mistake("run tag.yaml", ("not YAML", "line 3")),
    Mistake("run tab.yaml", ("not YAML", "line 4", "blanks")),
    Mistake("run two_documents.yaml", ("single document",)),
    Mistake("run month.yaml", ("month",)),
    Mistake("run nul.yaml", ("prompts", "\\x00", "take it out")),
    Mistake("run no_prompts.yaml", ("none.jsonl", "check the path")),
    Mistake("run empty_prompts.yaml", ("empty.jsonl",)),
    Mistake("run broken_prompts.yaml", ("broken.jsonl", "line 2")),
    Mistake("run many.yaml", ("n_prompts is 5000", "lower n_prompts")),
    Mistake("run one.yaml", ("n_prompts", "at least 2")),
    Mistake("run separator.yaml", ("separator", "put it in quotes")),
    Mistake("run matrix.yaml", ("names c", "not among the models")),
    Mistake("run world.yaml", ("world_text", "prompts: zoo")),
    Mistake("run list.yaml", ("a study is a mapping",)),
    Mistake("run nothing.yaml", ("a study is a mapping",)),
    Mistake("run no_models.yaml", ("models: this key is missing",)),
    Mistake("run no_name.yaml", ("name: this key is missing",)),
    Mistake("run model_list.yaml", ("give each model a name",)),
    Mistake("run model_none.yaml", ("at least one model",)),
    Mistake("run zoo.yaml", ("the zoo has no model 'oak-rl'",)),
    Mistake("run folder.yaml", ("no model folder", "check the path")),
    Mistake("run no_config.yaml", ("no config.json", "save_pretrained")),
    Mistake("run model_key.yaml", ("modle", "Did you mean 'model'?")),
    Mistake("run dtype.yaml", ("no 'int4'", "float32")),
    Mistake("run device.yaml", ("no device 'gpu'", "cuda")),
    Mistake("run template.yaml", ("none.jinja", "check the path")),
    Mistake("run base.yaml", ("has no base", "leave out")),
    Mistake("run path_name.yaml", ("cannot name a study", "such as 's'")),
    Mistake("run long_name.yaml", ("cannot name a study", "48 bytes")),
    Mistake("run nul_name.yaml", ("cannot name a study", "such as 'a-b'")),
    Mistake("run reserved.yaml", ("'mean' cannot name a model", "another name")),
    Mistake("run case.yaml", ("'a' and 'A'", "one file")),
    Mistake("run number_name.yaml", ("put it in quotes",)),
    Mistake("run twice_model.yaml", ("'a' is given twice",)),
    Mistake("run good.yaml --n-prompts 1", ("--n-prompts", "greater than or equal to 2")),
    Mistake("run good.yaml --n-prompts 5000", ("lower n_prompts",)),
    Mistake("run good.yaml --workers none", ("--workers", "integer")),
    Mistake("run good.yaml --worker 2", ("no such option: --worker", "--workers")),
    Mistake("run good.yaml extra", ("unexpected extra argument", "extra")),
    Mistake("run good.yaml -q -v", ("--quiet and --verbose",)),
    Mistake("run good.yaml --out prompts.jsonl", ("prompts.jsonl",)),
    Mistake("run good.yaml --out full", ("full", "--out")),
    Mistake("$ENACTION_RUN_WORKERS=many run good.yaml", ("ENACTION_RUN_WORKERS", "integer")),
]
OTHERS = [
    Mistake("scor", ("no such command 'scor'", "'score'")),
    Mistake("--versoin", ("no such option", "--version")),
    Mistake("check", ("missing argument",)),
    Mistake("check ./nowhere", ("no model folder ./nowhere", "check the path")),
    Mistake("check empty", ("no config.json",)),
    Mistake("check layers", ("200,000 layers", "save_pretrained")),
    Mistake("check nested", ("nested too deeply",)),
    Mistake("check not_json", ("config.json cannot be read",)),
    Mistake("check adapter", ("adapter", "merge")),
    Mistake("check none.gguf", ("no file none.gguf",)),
    Mistake("check zoo:oak-rl", ("no model 'oak-rl'", "ash-rl")),
    Mistake("check ash-rl", ("ash-rl", "zoo:NAME")),
    Mistake("check zoo:ash-rl --dtype int4", ("int4", "bfloat16")),
    Mistake("check zoo:ash-rl --device gpu", ("no device 'gpu'", "cuda")),
    Mistake("$ENACTION_DEVICE=gpu check zoo:ash-rl", ("no device 'gpu'", "cuda")),
    Mistake("check zoo:ash-rl --chat-template none.jinja", ("none.jinja", "check the path")),
    Mistake("check zoo:ash-rl --template-option thinking", ("NAME=VALUE",)),
    Mistake("check zoo:ash-rl --framing user", ("--framing", "'assistant'")),
    Mistake("check zoo:ash-rl --base x.gguf", ("has no base", "leave out")),
    Mistake("sample --prompts zoo", ("missing option '--model'",)),
    Mistake("sample --model zoo:ash-rl", ("missing option '--prompts'",)),
    Mistake("sample --model zoo:ash-rl --prompts none.jsonl", ("none.jsonl", "check the path")),
    Mistake("sample --model zoo:ash-rl --prompts zoo -n 0", ("-n", "greater than or equal to 1")),
    Mistake("sample --model zoo:ash-rl --prompts zoo --limit 0", ("--limit",)),
    Mistake("sample --model zoo:ash-rl --prompts zoo -o out.docx", ("out.docx", ".jsonl")),
    Mistake("sample --model zoo:ash-rl --prompts zoo -o empty", ("it is a folder", "empty/out.jsonl")),
    Mistake("sample --model zoo:ash-rl --prompts zoo --json", ("--json", "--out")),
    Mistake("sample --model zoo:oak-rl --prompts zoo", ("no model 'oak-rl'",)),
    Mistake("score none.jsonl --model zoo:ash-rl -o t.parquet", ("none.jsonl", "check the path")),
    Mistake("score prompts.jsonl --model zoo:ash-rl", ("missing option '--out'",)),
    Mistake("score prompts.jsonl --model zoo:ash-rl -o t.xlsx", ("t.xlsx", ".parquet")),
    Mistake("score broken_passages.jsonl --model zoo:ash-rl -o t.parquet", ("line 2",)),
    Mistake("score empty.jsonl --model zoo:ash-rl -o t.parquet", ("empty.jsonl",)),
    Mistake("score prompts.jsonl --model zoo:ash-rl -o t.parquet", ("response",)),
    Mistake("score fake.parquet --model zoo:ash-rl -o t.parquet", ("fake.parquet",)),
    Mistake("score prompts.jsonl --model zoo:ash-rl -o t.parquet --window 1", ("--window",)),
    Mistake("audit", ("missing argument",)),
    Mistake("audit broken_passages.jsonl", ("missing option '--model'",)),
    Mistake("audit none.jsonl --model zoo:ash-rl", ("none.jsonl", "check the path")),
    Mistake("audit empty.jsonl --model zoo:ash-rl", ("empty.jsonl", "no passages")),
    Mistake("audit prompts.jsonl --model zoo:ash-rl", ("response",)),
    Mistake("audit fake.parquet --model zoo:ash-rl", ("fake.parquet",)),
    Mistake("audit broken_passages.jsonl --model zoo:oak-rl", ("no model 'oak-rl'",)),
    Mistake("audit broken_passages.jsonl --model ./nowhere", ("no model folder ./nowhere",)),
    Mistake("audit broken_passages.jsonl --model zoo:ash-rl --versus zoo:oak-rl", ("no model 'oak-rl'",)),
    Mistake("audit broken_passages.jsonl --model zoo:ash-rl --temperature 0", ("greedy", "compare the texts")),
    Mistake("audit broken_passages.jsonl --model zoo:ash-rl --top-p 1.5", ("top_p 1.5", "at most 1")),
    Mistake("audit broken_passages.jsonl --model zoo:ash-rl --top-k 0", ("top_k 0",)),
    Mistake("audit broken_passages.jsonl --model zoo:ash-rl --noise -1", ("noise -1", "0 to 1")),
    Mistake("audit broken_passages.jsonl --model zoo:ash-rl --alpha 0", ("alpha 0", "between 0 and 1")),
    Mistake("audit broken_passages.jsonl --model zoo:ash-rl --fdr 1", ("--fdr 1", "between 0 and 1")),
    Mistake("audit broken_passages.jsonl --model zoo:ash-rl --resample 5", ("--resample", "equal to 19")),
    Mistake("audit broken_passages.jsonl --model zoo:ash-rl -o t.xlsx", ("t.xlsx", ".parquet")),
    Mistake("audit broken_passages.jsonl --model zoo:ash-rl --html empty", ("it is a folder",)),
    Mistake("audit broken_passages.jsonl --model zoo:ash-rl --column ids", ("write NAME=VALUE",)),
    Mistake("audit broken_passages.jsonl --model zoo:ash-rl --column ids=x", ("'ids'", "token_ids")),
    Mistake("report", ("missing argument",)),
    Mistake("report nowhere", ("nowhere is no run folder", "enaction run")),
    Mistake("report full", ("full is no run folder",)),
    Mistake("report prompts.jsonl", ("prompts.jsonl is no run folder",)),
    Mistake("zoo path oak-rl", ("no model 'oak-rl'",)),
    Mistake("zoo card oak-rl", ("no model 'oak-rl'",)),
    Mistake("zoo list extra", ("unexpected extra argument",)),
    Mistake("zoo lst", ("no such command 'lst'",)),
]
MISTAKES = [*RUN, *OTHERS]

# One process makes all mistakes, as fast as a person could not: torch has to be absent after each of them.
DRIVER = """
import contextlib, io, json, os, sys, time
from enaction.cli import main

results = []
for line in json.loads(sys.stdin.read()):
    words = line.split()
    variables = [word[1:].split("=") for word in words if word.startswith("$")]
    sys.argv = ["enaction", *(word for word in words if not word.startswith("$"))]
    os.environ.update(variables)
    out, err, began = io.StringIO(), io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
            code = None
        except SystemExit as end:
            code = end.code
    for name, _ in variables:
        del os.environ[name]
    heavy = [name for name in ("torch", "transformers") if name in sys.modules]
    results.append([code, out.getvalue(), err.getvalue(), heavy, time.process_time() - began])
print(json.dumps(results))
"""


class Outcome(NamedTuple):
    """What a command did; `seconds` of processor time."""

    code: int | None
    out: str
    err: str
    heavy: list[str]
    seconds: float


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    _write_files(folder)
    return folder


@pytest.fixture(scope="module", name="outcomes")
def _outcomes(folder: Path) -> dict[str, Outcome]:
    process = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps([mistake.line for mistake in MISTAKES]),
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert process.returncode == 0, process.stderr
    given = json.loads(process.stdout)
    return {mistake.line: Outcome(*result) for mistake, result in zip(MISTAKES, given, strict=True)}


def _write_files(folder: Path) -> None:
    for name, text in STUDIES.items():
        (folder / f"{name}.yaml").write_text(STUDY + text + "\n")
    for name, text in WHOLE_STUDIES.items():
        (folder / f"{name}.yaml").write_text(text + "\n")
    (folder / "good.yaml").write_text(STUDY)
    (folder / "latin.yaml").write_bytes("name: thé\n".encode("latin-1"))
    (folder / "prompts.jsonl").write_text('{"id": "a", "prompt": "why"}\n{"id": "b", "prompt": "what"}\n')
    (folder / "broken.jsonl").write_text('{"id": "a", "prompt": "why"}\n{not json\n')
    passage = {"id": "x", "prompt": [{"role": "user", "content": "why"}], "response": "so", "author": "me"}
    (folder / "broken_passages.jsonl").write_text(json.dumps(passage) + "\n{not json\n")
    (folder / "empty.jsonl").write_text("")
    (folder / "fake.parquet").write_text("not parquet")
    for name in ("empty", "full", "layers", "nested", "not_json", "adapter"):
        (folder / name).mkdir()
    (folder / "full" / "thesis.txt").write_text("mine")
    header = json.dumps({f"w{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(30)}).encode()
    (folder / "layers" / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": 200_000}))
    (folder / "layers" / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (folder / "nested" / "config.json").write_text('{"a": ' * 100_000 + "1" + "}" * 100_000)
    (folder / "not_json" / "config.json").write_text("{")
    (folder / "adapter" / "adapter_config.json").write_text("{}")


def test_there_are_fifty_and_no_two_are_the_same() -> None:
    assert len({mistake.line for mistake in MISTAKES}) == len(MISTAKES) > 100


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.line)
def test_a_mistake_is_one_line_with_the_remedy_at_once(mistake: Mistake, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[mistake.line]
    assert outcome.code == 2, outcome
    (line,) = outcome.err.splitlines()
    assert line.startswith("enaction: ")
    for words in mistake.words:
        assert words in line
    assert outcome.out == ""
    assert outcome.heavy == []
    assert outcome.seconds < 1


def test_mistakes_leave_nothing_behind(folder: Path, outcomes: dict[str, Outcome]) -> None:
    assert outcomes
    made = {path.name for path in folder.iterdir()}
    assert made.isdisjoint({"runs", "t.parquet", "t.xlsx", "out.docx"})
    assert [path.name for path in (folder / "full").iterdir()] == ["thesis.txt"]
