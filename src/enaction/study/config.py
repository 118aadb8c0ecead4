"""The study file: what is measured, on which models and prompts, with which settings.

A study is YAML; every key is checked, every default is defined here. The resolved study is stored in the run folder, so
that a run says by itself what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from enaction import zoo
from enaction.endpoint.address import read_address
from enaction.errors import StudyError
from enaction.passages import Prompt, Sampling, is_hub_id, read_prompts, thinned
from enaction.reader.naming import AUTO, Dtype, Quantization, canonical_dtype, known_device, known_device_map
from enaction.reader.sources import absolute_name
from enaction.study.names import FamilyName, StageName, StudyName, require_models
from enaction.study.problems import problems_of, require_text
from enaction.study.yaml_files import parsed
from enaction.words import FRAMINGS, Framing


def _known_server(name: str) -> str:
    read_address(name)
    return name


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelSpec(_Strict):
    """One model of a study.

    Attributes:
        model: hub id (optionally `@revision`), folder, `.gguf` file or `zoo:NAME`; relative paths are relative to the
            study file.
        family: of models that come from one base (base, SFT, RL); by default the name of the model.
        stage: of training; the models of one stage form a matrix, each read by all.
        framing: fixes the framing that this model samples and reads in; a model without chat template has `none`.
        chat_template: a file with a Jinja chat template that replaces the tokenizer's own.
        template_options: switches of the chat template, such as `enable_thinking: false`.
        dtype: of the weights, also as `bf16` or `fp16`; `auto` is what they are saved in. Statistics are float32.
        device: where torch puts the model, `cpu` or `cuda:1` and so on; `auto` is CUDA, else MPS, else the CPU (for the
            small models of the embedded world always the CPU).
        device_map: instead of `device`, for a model that no device has room for: `auto`, `balanced`, `balanced_low_0`
            or `sequential`, or a mapping from modules to devices, as accelerate knows them.
        quantization: `4bit` or `8bit` quantises the weights on loading, by bitsandbytes. A checkpoint that is quantised
            already is loaded as it is.
        trust_remote_code: run code that comes with the model.
        base: the base of a model that is an adapter, if it is not where the adapter says: a folder or hub id; a file
            for `zoo:smollm2-rl-a` and its like.
        server: an endpoint that serves these weights, `openai:http://host/v1#model`: the model's texts are sampled
            there, and read here.
    """

    model: str
    family: FamilyName = ""
    stage: StageName = "model"
    framing: Literal["assistant", "none"] | None = None
    chat_template: Path | None = None
    template_options: dict[str, bool | int | float | str | None] = {}
    dtype: Annotated[Dtype, BeforeValidator(canonical_dtype)] = "float32"
    device: Annotated[str, AfterValidator(known_device)] = AUTO
    device_map: Annotated[str | dict[str, str | int] | None, AfterValidator(known_device_map)] = None
    quantization: Quantization | None = None
    trust_remote_code: bool = False
    base: Path | None = None
    server: Annotated[str, AfterValidator(_known_server)] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> ModelSpec:
        if self.device != AUTO and self.device_map is not None:
            raise ValueError("device and device_map contradict each other: give one of them")
        return self


class Study(_Strict):
    """A whole study.

    Attributes:
        name: names the run folder, `runs/NAME`.
        models: by the name that tables and figures use; `NAME: MODEL` is short for `NAME: {model: MODEL}`.
        dtype, device, device_map, quantization: of every model that does not say otherwise.
        matrices: groups of models, each read all by all; by default the models of each stage.
        experiments: what is measured, by name, each with its settings; a list of names means default settings.
        prompts: `zoo` for the requests of the embedded world, a file of prompts (JSON lines, JSON, Parquet, CSV, plain
            text with a prompt a line), or a data set: its folder, or its id on the hub (`ORG/NAME`, `ORG/NAME:CONFIG`).
        split: of a data set of prompts, such as `train`; may be left out where there is one.
        prompt_column: where the prompts are in that file, if not under a name that is known.
        n_prompts: how many of them, spread evenly over the file; all by default.
        sampling: how the models' own text is written.
        framings: how passages are put before the readers.
        world_text: also read fresh text of the embedded world itself.
        cross_stage: every reader reads every author; otherwise a reader reads its matrix, and base readers all.
        separator: between question and response in the framings `user` and `none`.
        seed: of sampling and resampling.
        resamples: bootstrap resamples and permutations.
    """

    name: StudyName
    models: dict[str, ModelSpec]
    # Handed on to the models, and not kept: a resolved study says of each model how it is loaded.
    dtype: Annotated[Dtype, BeforeValidator(canonical_dtype)] | None = Field(default=None, exclude=True)
    device: str | None = Field(default=None, exclude=True)
    device_map: str | dict[str, str | int] | None = Field(default=None, exclude=True)
    quantization: Quantization | None = Field(default=None, exclude=True)
    matrices: dict[StageName, list[str]] = {}
    experiments: Annotated[dict[str, dict[str, Any]], Field(min_length=1)] = {"matrix": {}}
    prompts: str = "zoo"
    split: str | None = None
    prompt_column: str | None = None
    n_prompts: Annotated[int, Field(ge=2)] | None = None
    sampling: Sampling = Sampling()
    framings: Annotated[list[Framing], Field(min_length=1)] = list(FRAMINGS)
    world_text: bool = False
    cross_stage: bool = True
    separator: str = "\n"
    seed: Annotated[int, Field(ge=0, lt=10**18)] = 0
    resamples: Annotated[int, Field(ge=100, le=10**6)] = 2000

    @model_validator(mode="before")
    @classmethod
    def _loading_is_the_models(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(given.get("models"), dict):
            return given
        shared = {key: given[key] for key in _OF_ALL_MODELS if given.get(key) is not None}
        if not shared:
            return given
        models = {name: _with_defaults(spec, shared) for name, spec in given["models"].items()}
        return {key: value for key, value in given.items() if key not in shared} | {"models": models}

    @field_validator("models", mode="before")
    @classmethod
    def _a_name_alone_is_a_model(cls, models: Any) -> Any:
        if not isinstance(models, dict):
            raise ValueError("give each model a name, as in {llama: meta-llama/Llama-3.2-1B, tiny: ./my-model}")
        return {name: {"model": spec} if isinstance(spec, str) else spec for name, spec in models.items()}

    @field_validator("models")
    @classmethod
    def _names_are_usable(cls, models: dict[str, ModelSpec]) -> dict[str, ModelSpec]:
        require_models(models)
        if not models:
            raise ValueError("a study needs at least one model")
        return {
            name: spec if spec.family else spec.model_copy(update={"family": name}) for name, spec in models.items()
        }

    @field_validator("experiments", mode="before")
    @classmethod
    def _names_alone_mean_defaults(cls, experiments: Any) -> Any:
        if isinstance(experiments, list):
            return {name: {} for name in experiments}
        if isinstance(experiments, dict):  # a name with nothing after its colon is null
            return {name: {} if settings is None else settings for name, settings in experiments.items()}
        return experiments

    @model_validator(mode="after")
    def _parts_fit(self) -> Study:
        for stage, members in self.matrices.items():
            unknown = [name for name in members if name not in self.models]
            if unknown:
                raise ValueError(f"matrix '{stage}' names {', '.join(unknown)}, which is not among the models")
            if len(members) < 2 or len(set(members)) < len(members):
                raise ValueError(f"matrix '{stage}' needs two or more different models")
        if len(set(self.framings)) < len(self.framings):
            raise ValueError("framings names one twice: take it out")
        if self.world_text and self.prompts != "zoo":
            raise ValueError("world_text is text of the embedded world, which answers only prompts: zoo")
        if self.split is not None and self.prompts == "zoo":
            raise ValueError("split is of a data set, and prompts: zoo is none; leave it out")
        return self

    def groups(self) -> dict[str, list[str]]:
        """Stage -> its models, for every stage with two or more: `matrices` if given, else by stage in order."""
        if self.matrices:
            return self.matrices
        by_stage: dict[str, list[str]] = {}
        for name, spec in self.models.items():
            by_stage.setdefault(spec.stage, []).append(name)
        return {stage: members for stage, members in by_stage.items() if len(members) > 1}

    def groups_named(self, names: Sequence[str] | None) -> dict[str, list[str]]:
        """Those of the groups that are named, in the study's order; all of them for None.

        Raises:
            StudyError: there is no such group.
        """
        groups = self.groups()
        unknown = [name for name in names or () if name not in groups]
        if unknown:
            raise StudyError(f"stages: no matrix {', '.join(unknown)}; there is {', '.join(groups) or 'none'}")
        return groups if names is None else {name: members for name, members in groups.items() if name in names}

    def base_of(self, name: str) -> str | None:
        """The base model of the same family, if the study has one and it is another model."""
        family = self.models[name].family
        bases = [m for m, spec in self.models.items() if spec.family == family and spec.stage == "base"]
        return bases[0] if bases and bases[0] != name else None

    def load_prompts(self) -> list[Prompt]:
        """The prompts, thinned evenly to `n_prompts`.

        Raises:
            PassageError: the file is missing or malformed.
            StudyError: there are fewer prompts than `n_prompts`.
        """
        if self.prompts == "zoo":
            prompts = zoo.prompts()
        else:
            prompts = read_prompts(self.prompts, column=self.prompt_column, split=self.split)
        if self.n_prompts is not None and self.n_prompts > len(prompts):
            raise StudyError(f"n_prompts is {self.n_prompts}, but {self.prompts} has {len(prompts)}: lower n_prompts")
        return thinned(prompts, self.n_prompts)


_OF_ALL_MODELS = ("dtype", "device", "device_map", "quantization")


def _with_defaults(spec: Any, shared: dict[str, Any]) -> Any:
    """What a study file says of a model, with what it says of all; a model's own place excludes the study's."""
    if isinstance(spec, str):
        spec = {"model": spec}
    if not isinstance(spec, dict):
        return spec
    has_place = not spec.keys().isdisjoint(("device", "device_map"))
    return {key: value for key, value in shared.items() if not has_place or not key.startswith("device")} | spec


def parse_study(path: Path) -> Study:
    """Read a study file, paths as written there.

    Raises:
        StudyError: the file is missing, not YAML, or not a study; one line names each key and what is wrong.
    """
    try:
        raw = parsed(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such study file") from None
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}): give a study file") from None
    except UnicodeDecodeError:
        raise StudyError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except ValueError as error:
        raise StudyError(f"{path}: {error}") from None
    return study_of(raw, str(path))


def study_of(given: Any, source: str) -> Study:
    """The study that plain data describes.

    Args:
        given: what a study file holds.
        source: where it comes from, for error messages.

    Raises:
        StudyError: it is not a study; one line names each key and what is wrong.
    """
    if not isinstance(given, dict):
        raise StudyError(
            f"{source}: a study is a mapping, as in name: first, models: {{llama: meta-llama/Llama-3.2-1B}}, prompts: "
            "prompts.jsonl; a line each"
        )
    try:
        study = Study.model_validate(given)
        require_text(given)
        return study
    except ValidationError as error:
        raise StudyError(f"{source}: {problems_of(error, Study)}") from None
    except ValueError as error:
        raise StudyError(f"{source}: {error}") from None


def with_absolute_paths(study: Study, folder: Path) -> Study:
    """The study with the paths of its models and prompts, relative to the folder, made absolute.

    Paths in the settings of experiments are the experiments' own: see `experiments.settled`.
    """
    models = {
        name: spec.model_copy(
            update={
                "model": absolute_name(spec.model, folder),
                "chat_template": (folder / spec.chat_template).resolve() if spec.chat_template else None,
                "base": _absolute_base(spec.base, folder) if spec.base else None,
            }
        )
        for name, spec in study.models.items()
    }
    is_file = study.prompts != "zoo" and not is_hub_id(study.prompts, folder)
    prompts = str((folder / study.prompts).resolve()) if is_file else study.prompts
    return study.model_copy(update={"models": models, "prompts": prompts})


def _absolute_base(base: Path, folder: Path) -> Path:
    """A base that is relative to the folder, made absolute; an id on the hub as it is."""
    path = (folder / base.expanduser()).resolve()
    return path if path.exists() or base.suffix or len(base.parts) != 2 else base
