"""`enaction audit`: was each turn of these transcripts sampled from this model?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from enaction.cli import completing, stopping
from enaction.cli.options import (
    AsJson,
    Limit,
    ModelOrEndpoint,
    PromptColumn,
    ReaderOptions,
    Split,
    Tokenizer,
    pairs,
    with_reader_options,
)
from enaction.cli.showing import print_json, print_page, progress_bar, remark, results
from enaction.errors import UserError
from enaction.words import Framing

if TYPE_CHECKING:
    from enaction.audit.page import Summary
    from enaction.audit.reading import AnyReader
    from enaction.audit.settings import Settings
    from enaction.audit.sources import Source
    from enaction.page import Coloured
    from enaction.passages import Passage

# Turns that are sampled again where a second opinion is wanted.
_SECOND = 20
# Turns and tokens of each that the page colours.
_TURNS_SHOWN = 20
_TOKENS_SHOWN = 600


@with_reader_options
def command(
    transcripts: Annotated[
        str,
        typer.Argument(help="Chats, passages, rollouts or logs: .jsonl, .json, .parquet, .csv, .txt, .eval; `-`."),
    ],
    model: ModelOrEndpoint,
    temperature: Annotated[
        float | None, typer.Option(help="Of the sampler; by default what the first turn says, else 1.")
    ] = None,
    top_p: Annotated[float | None, typer.Option(help="Of the sampler; by default what the first turn says.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Of the sampler; by default what the first turn says.")] = None,
    noise: Annotated[
        float, typer.Option(help="Difference between sampler and reader that is no evidence, nats a token.")
    ] = 0.05,
    alpha: Annotated[float, typer.Option(help="Chance at most of a false alarm, by turn.")] = 0.05,
    fdr: Annotated[float, typer.Option(help="Share at most of false reports among all, on average.")] = 0.05,
    framing: Annotated[
        Framing | None,
        typer.Option(help="assistant, user or none; by default assistant if there are a chat template and prompts."),
    ] = None,
    versus: Annotated[
        list[str] | None,
        typer.Option(
            help="Another model that may have written the turns, with the same tokenizer; may be repeated.",
            autocompletion=completing.models,
        ),
    ] = None,
    binoculars: Annotated[
        bool, typer.Option(help="Binoculars' ratio with the first --versus as observer, in a further pass of both.")
    ] = False,
    resample: Annotated[
        int | None,
        typer.Option(min=19, help=f"Rank the first {_SECOND} turns among M answers that the model gives again."),
    ] = None,
    prompt_column: PromptColumn = None,
    response_column: Annotated[str | None, typer.Option(help="Column or key of the responses.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="What a column of rollouts means, as in token_ids=my_ids; may be repeated."),
    ] = None,
    split: Split = None,
    limit: Limit = None,
    rows: Annotated[int, typer.Option(min=1, help="Turns to print, those with most evidence.")] = 20,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Table, a row a turn: .parquet, .csv or .jsonl. Resumes.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the tokens coloured by their evidence.")] = None,
    fail_on: Annotated[
        Literal["never", "foreign"],
        typer.Option(help="`foreign`: exit 1 if a turn is reported, or all turns together, for scripts."),
    ] = "never",
    tokenizer: Tokenizer = None,
    as_json: AsJson = False,
    *,
    reading: ReaderOptions,
) -> None:
    """Test whether each turn was sampled from a model as stated, with a bound on false alarms.

    That a turn is the model's own is never proven. Files of any length are read in constant memory, and with --out the
    same command resumes after an interruption; docs/audit.md says what is tested.
    Example: `enaction audit chats.jsonl --model zoo:ash-rl --temperature 1 --html audit.html`
    """
    from enaction.audit.page import as_data, cautions, page_of
    from enaction.audit.sources import Source
    from enaction.audit.table import ENDINGS, write_rows
    from enaction.files import require_place

    if out is not None:
        require_place(out, ENDINGS)
    if html is not None:
        require_place(html, (".html",))
    if not 0 < fdr < 1:
        raise UserError(f"--fdr {fdr} is not possible: it is a share between 0 and 1")
    if binoculars and not versus:
        raise UserError("--binoculars compares two models: name the observer with --versus, such as the base model")
    given = {"prompt_column": prompt_column, "response_column": response_column, "split": split}
    source = Source(transcripts, pairs("--column", column or (), "token_ids=my_ids"), given, limit)
    turns = _Turns(source)
    settings = _settings(turns.first(), temperature, top_p, top_k, noise, alpha, framing)
    reader, others = _readers(model, versus or (), tokenizer, reading)
    turns.tokenizer = reader.fingerprint
    # First, so that what it cannot do is found before the long work.
    second = [] if resample is None else _second(reader, turns, settings, resample)
    observer = next(iter(others)) if binoculars else None
    summary, journal = _audited(reader, others, observer, turns, settings, fdr, rows, out, (model, reading.base))
    summary = replace(summary, second=second)
    journal.finish(lambda path, kept: write_rows(path, kept, summary.reported.tolist()))
    page = page_of(summary)
    if html is not None:
        from enaction.report.sheet import write_sheet

        write_sheet(page, html, about=transcripts, texts=_shown(reader, others, turns, summary))
    files = {"turns": None if out is None else str(out), "html": None if html is None else str(html)}
    if as_json:
        print_json(as_data(summary) | {"files": files})
    else:
        print_page(page)
        for line in cautions(summary):
            results(highlight=False).print(f"- {line}", markup=False, style="dim", soft_wrap=True)
        for what, path in files.items():
            if path is not None:
                remark(f"{what}: {path}")
    if fail_on == "foreign" and (summary.is_stream_foreign or summary.reported.any()):
        raise typer.Exit(1)


@dataclass
class _Turns:
    """The turns of a source, which may be gone through several times; standard input is kept.

    Attributes:
        tokenizer: fingerprint of the tokenizer that ids without one are of.
    """

    source: Source
    tokenizer: str = ""
    _kept: list[Passage] | None = None

    def __iter__(self) -> Iterator[Passage]:
        from enaction.passages import STDIO

        if self.source.path != STDIO:
            return self.source.turns(self.tokenizer)
        if self._kept is None:
            self._kept = list(self.source.turns(self.tokenizer))
        return iter(self._kept)

    def first(self) -> Passage | None:
        """The first turn; what is wrong with the file or its first row is found before a model is loaded."""
        return next(iter(self), None)


def _settings(
    first: Passage | None,
    temperature: float | None,
    top_p: float | None,
    top_k: int | None,
    noise: float,
    alpha: float,
    framing: Framing | None,
) -> Settings:
    """What the user says of the sampler, else what the first turn says, else the model's own distribution."""
    from enaction.audit.settings import Settings

    said = first.sampling if first is not None else {}
    asked = {"temperature": temperature, "top_p": top_p, "top_k": top_k}
    taken = {name: said[name] for name, value in asked.items() if value is None and said.get(name) is not None}
    settings = Settings(
        **{name: value for name, value in asked.items() if value is not None} | taken,
        noise=noise,
        alpha=alpha,
        framing=framing,
    )
    if any(taken[name] != getattr(Settings, name) for name in taken):
        remark("as the first turn says: " + ", ".join(f"{name} {value}" for name, value in taken.items()))
    return settings


def _readers(
    model: str, versus: Sequence[str], tokenizer: str | None, reading: ReaderOptions
) -> tuple[AnyReader, dict[str, AnyReader]]:
    """The model that is said to have written the turns, and the others by name; wrong names are found first."""
    from enaction.reader.sources import find, require

    for name in versus:
        if versus.count(name) > 1 or name == model:
            raise UserError(f"--versus {name} is named twice: name other models than --model, each once")
        if find(name).kind != "endpoint":
            require(find(name), base=None)
    if find(model).kind == "endpoint":
        reader: AnyReader = reading.open(model, tokenizer)
    elif tokenizer is not None:
        raise UserError(f"--tokenizer is for endpoints (openai:...): {model} has its own; leave it out")
    else:
        reader = reading.load(model)
    others: dict[str, AnyReader] = {}
    for name in versus:
        elsewhere = replace(reading, base=None, chat_template=None, template_option=None)
        others[name] = elsewhere.open(name, tokenizer) if find(name).kind == "endpoint" else elsewhere.load(name)
    return reader, others


def _audited(
    reader: AnyReader,
    others: dict[str, AnyReader],
    observer: str | None,
    turns: _Turns,
    settings: Settings,
    fdr: float,
    rows: int,
    out: Path | None,
    loaded: tuple[str, Path | None],
) -> tuple[Summary, Any]:
    """Judge all turns, going on from what an earlier command kept."""
    from enaction.audit import Audit, audit
    from enaction.audit.judging import could_see
    from enaction.audit.page import Summary
    from enaction.audit.table import SCHEMA, Tally, row_of
    from enaction.cli.journal import Journal
    from enaction.endpoint import EndpointReader

    journal = Journal(
        out, SCHEMA, _made_from(reader, others, observer, turns, settings, loaded) if out is not None else {}
    )
    so_far = Audit(settings) if journal.state is None else Audit.at(settings, journal.state)
    tally = Tally(rows)
    for row in journal.rows():
        tally.add(row)
    otherwise = _Otherwise(settings)
    remaining = itertools.islice(map(otherwise.count, turns), so_far.n_turns, None)
    with progress_bar() as bar:
        task = bar.add_task(f"auditing with {reader.name}", total=turns.source.limit, completed=so_far.n_turns)
        try:
            for turn in audit(reader, remaining, so_far, others, observer=observer):
                row = row_of(so_far.n_turns, turn)
                tally.add(row)
                journal.add(row, so_far.state)
                bar.update(task, completed=so_far.n_turns)
        except UserError as error:
            journal.flush(so_far.state())
            if journal.kept == stopping.NOTHING_KEPT:
                raise
            raise type(error)(f"{error} ({journal.kept})") from error
    if not tally.n_turns:
        raise UserError(f"{turns.source.path} holds no turns: write one JSON object a line")
    stream = so_far.stream
    summary = Summary(
        reader.name,
        so_far.settings,
        fdr,
        tally,
        stream.log_e,
        stream.greatest,
        could_see(tally.information, tally.n_tokens, so_far.settings),
        otherwise.n,
        list(others),
        observer,
        unknown=(*reader.narrowed, *reader.doubts) if isinstance(reader, EndpointReader) else (),
    )
    return summary, journal


class _Otherwise:
    """Counts turns that say they were sampled with other settings than these."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self.n = settings, 0

    def count(self, passage: Passage) -> Passage:
        """The passage, counted."""
        names = ("temperature", "top_p", "top_k")
        said = {name: passage.sampling[name] for name in names if passage.sampling.get(name) is not None}
        self.n += any(value != getattr(self._settings, name) for name, value in said.items())
        return passage


def _made_from(
    reader: AnyReader,
    others: dict[str, AnyReader],
    observer: str | None,
    turns: _Turns,
    settings: Settings,
    loaded: tuple[str, Path | None],
) -> dict[str, Any]:
    """JSON of all that the rows follow from; a file by its size and time, since it may be longer than memory."""
    from enaction.cli import resuming
    from enaction.passages import STDIO

    source, path = turns.source, Path(turns.source.path)
    data: list[object] = list(turns) if source.path == STDIO else [source.path]
    if path.is_file():
        data.append((path.stat().st_size, path.stat().st_mtime_ns))
    return resuming.settings_of(reader, *loaded, data) | {
        "settings": repr(settings),
        "versus": [resuming.settings_of(other, name, None, [])["model"] for name, other in others.items()],
        "observer": observer,
        "columns": [dict(source.columns), dict(source.options)],
        "limit": source.limit,
    }


def _second(reader: AnyReader, turns: _Turns, settings: Settings, m: int) -> Sequence[Any]:
    """The first turns among answers that the model gives again."""
    from enaction.audit.resampling import ranked
    from enaction.reader import Reader

    if not isinstance(reader, Reader):
        raise UserError("--resample samples with a model that is loaded here: leave it out, or give the weights")
    first = list(itertools.islice(turns, _SECOND))
    remark(f"sampling {m} answers to each of the first {len(first)} turns")
    return ranked(reader, first, settings, m)


def _shown(reader: AnyReader, others: dict[str, AnyReader], turns: _Turns, summary: Summary) -> list[Coloured]:
    """The turns with most evidence, read once more, token by token."""
    from enaction.audit.coloured import coloured

    wanted = {row["turn"]: row for row in summary.tally.worst[:_TURNS_SHOWN]}
    last = max(wanted)
    found = {
        number: passage for number, passage in enumerate(itertools.islice(turns, last), start=1) if number in wanted
    }
    return [
        coloured(reader, found[number], row, summary.settings, others, most=_TOKENS_SHOWN)
        for number, row in wanted.items()
        if row["tokens"] and number in found
    ]
