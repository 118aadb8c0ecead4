"""Options that several commands share, and the one way they load a reader."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from enaction.cli import completing
from enaction.cli.showing import remark
from enaction.errors import FramingError, ModelError, UserError
from enaction.reader.naming import (
    AUTO,
    DEVICE_HELP,
    DEVICE_MAP_HELP,
    DTYPE_ALIASES,
    DTYPE_HELP,
    QUANTIZATION_HELP,
    DeviceMap,
    Dtype,
    Quantization,
    canonical_dtype,
    known_device,
    known_device_map,
)

if TYPE_CHECKING:
    from enaction.endpoint import EndpointReader
    from enaction.reader import Reader

MODEL_HELP = "Hub id (optionally @revision), folder, .gguf file, or zoo:NAME."
Model = Annotated[str, typer.Option(help=MODEL_HELP, autocompletion=completing.models)]
ModelArgument = Annotated[str, typer.Argument(help=MODEL_HELP, autocompletion=completing.models)]
ModelOrEndpoint = Annotated[
    str,
    typer.Option(
        help=f"{MODEL_HELP[:-1].replace(', or', ',')}, or an endpoint, openai:http://HOST/v1#MODEL.",
        autocompletion=completing.models,
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(help="Of an endpoint's model: a folder, hub id or zoo:NAME; by default what MODEL names."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")]
WrittenIn = Annotated[
    Literal["assistant", "none"] | None,
    typer.Option(help="assistant or none; by default assistant if there is a chat template."),
]
PromptColumn = Annotated[str | None, typer.Option(help="Column or key of the prompts.")]
Split = Annotated[str | None, typer.Option(help="Split of a data set, as in train or train[:100].")]
Limit = Annotated[int | None, typer.Option(min=1, help="Take the first N only.")]
Base = Annotated[Path | None, typer.Option(help="Base of an adapter: a folder or hub id; of zoo:smollm2-... its file.")]


@dataclass(frozen=True)
class ReaderOptions:
    """The options that say how a model is loaded."""

    chat_template: Annotated[Path | None, typer.Option(help="File with a Jinja chat template.")] = None
    template_option: Annotated[
        list[str] | None,
        typer.Option(help="A switch of the chat template, as in enable_thinking=false; may be repeated."),
    ] = None
    dtype: Annotated[str, typer.Option(help=DTYPE_HELP)] = "float32"
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = AUTO
    device_map: Annotated[str | None, typer.Option(help=DEVICE_MAP_HELP)] = None
    quantization: Annotated[Quantization | None, typer.Option(help=QUANTIZATION_HELP)] = None
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")
    ] = False
    base: Base = None

    def load(self, model: str) -> Reader:
        """Load a reader of this model and say on standard error where it is.

        A wrong name or an unreadable file is reported without importing torch.

        Raises:
            ModelError: no such model, base, dtype or device.
            FramingError: no such template file, or a switch that it does not have.
        """
        from enaction.reader.sources import find, require

        template, switches = self._template()
        if canonical_dtype(self.dtype) not in get_args(Dtype):
            raise ModelError(f"--dtype {self.dtype}: use one of {', '.join([*get_args(Dtype), *DTYPE_ALIASES])}")
        try:
            known_device(self.device)
        except ValueError as error:
            raise ModelError(f"--device: {error}") from None
        try:
            device_map = known_device_map(_device_map(self.device_map))
        except ValueError as error:
            raise ModelError(f"--device-map: {error}") from None
        require(find(model), base=self.base, device_map=device_map, quantization=self.quantization)
        from enaction.reader import Reader

        reader = Reader.load(
            model,
            dtype=self.dtype,
            device=self.device,
            device_map=device_map,
            quantization=self.quantization,
            chat_template=template,
            template_switches=switches,
            trust_remote_code=self.trust_remote_code,
            base=self.base,
        )
        remark(f"{reader.name}: {reader.placement}")
        return reader

    def open(self, model: str, tokenizer: str | None, *, concurrency: int | None = None) -> EndpointReader:
        """Reach an endpoint and say on standard error what should be known about it.

        Args:
            model: `openai:URL#MODEL`.
            tokenizer: as the user gave it.
            concurrency: requests at a time, by default the usual number.

        Raises:
            UserError: options that only a model loaded here has, or an endpoint that cannot be used.
        """
        theirs = [field.name for field in fields(self) if field.name not in ("chat_template", "template_option")]
        given = [name for name in theirs if getattr(self, name) != getattr(ReaderOptions, name)]
        if given:
            option = f"--{given[0].replace('_', '-')}"
            raise UserError(
                f"{option} is for models that are loaded here: leave it out (or unset $ENACTION_{given[0].upper()}), "
                "the server has its own"
            )
        template, switches = self._template()
        from enaction.endpoint import EndpointReader, Limits

        reader = EndpointReader.open(
            model,
            tokenizer=tokenizer,
            chat_template=template,
            template_switches=switches,
            limits=Limits() if concurrency is None else Limits(concurrency=concurrency),
        )
        remark(f"{reader.name}: {' '.join(reader.served)}")
        for doubt in reader.doubts:
            remark(f"warning: {doubt}")
        return reader

    def _template(self) -> tuple[str | None, dict[str, Any]]:
        """The text of the chat template that was given, and the switches."""
        from enaction.framing import read_template

        template = read_template(self.chat_template) if self.chat_template else None
        return template, dict(map(_switch, self.template_option or ()))


def _device_map(option: str | None) -> DeviceMap | None:
    """A rule by its name, or a mapping as JSON."""
    if option is None or not option.lstrip().startswith("{"):
        return option
    try:
        return json.loads(option)
    except ValueError:
        raise ModelError(f'--device-map {option}: not JSON; write it as \'{{"": "cuda:0"}}\'') from None


def _switch(option: str) -> tuple[str, Any]:
    """Name and value of NAME=VALUE, the value as JSON if it is that and else as it stands."""
    name, given, value = option.partition("=")
    if not given:
        raise FramingError(f"--template-option {option}: write NAME=VALUE, as in enable_thinking=false")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, {"True": True, "False": False, "None": None}.get(value, value)


def pairs(option: str, given: Sequence[str], example: str) -> dict[str, str]:
    """Name and value of each NAME=VALUE."""
    pairs = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise UserError(f"{option} {text}: write NAME=VALUE, as in {example}")
        if name in pairs:
            raise UserError(f"{option} {name} is given twice: keep one of them")
        pairs[name] = value
    return pairs


def with_reader_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `ReaderOptions` in place of its parameter `reading`: typer reads signatures."""
    options = inspect.signature(ReaderOptions, eval_str=True).parameters

    @wraps(command)
    def spread(**given: object) -> None:
        reading = {name: given.pop(name) for name in options}
        command(reading=ReaderOptions(**reading), **given)  # pyright: ignore[reportArgumentType]

    parameters = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        parameters += options.values() if parameter.name == "reading" else [parameter]
    spread.__signature__ = inspect.Signature(  # pyright: ignore[reportAttributeAccessIssue]
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    return spread
