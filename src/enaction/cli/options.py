"""Options that several commands share, and the one way they load a reader."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from enaction.errors import ModelError

if TYPE_CHECKING:
    from enaction.reader import Reader

Model = Annotated[str, typer.Option(help="Hub id (optionally @revision), folder, .gguf file, or zoo:NAME.")]
ChatTemplate = Annotated[Path | None, typer.Option(help="File with a Jinja chat template.")]
DType = Annotated[
    Literal["float32", "bfloat16", "float16"],
    typer.Option(help="float32, bfloat16 or float16; statistics are float32 all the same."),
]
Device = Annotated[str, typer.Option(help="Where torch puts the model: cpu, cuda, cuda:1, mps.")]
Base = Annotated[
    Path | None, typer.Option(help="Base file of an embedded adapter (zoo:smollm2-...), if it is not installed.")
]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")]


def load_reader(
    model: str, chat_template: Path | None, dtype: DType, device: Device, trust_remote_code: bool, base: Path | None
) -> Reader:
    """Load the reader that the options name. What is wrong with a name or a file is reported without importing torch.

    Raises:
        ModelError: no such model, base, template file or device.
    """
    from enaction.reader.sources import find

    try:
        template = chat_template.read_text() if chat_template else None
    except OSError as error:
        raise ModelError(f"--chat-template {chat_template}: cannot be read ({error.strerror})") from None
    find(model).require(base)
    from enaction.reader import Reader

    return Reader.load(
        model, dtype=dtype, device=device, chat_template=template, trust_remote_code=trust_remote_code, base=base
    )
