"""`mismatch predict`: one pair as a box, or many rows as a table of scores."""

from __future__ import annotations

import hashlib
import heapq
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
from click.core import ParameterSource

from mismatch.cli.options import (
    LocationType,
    fetching_row_options,
    long_text_option,
    model_options,
    review_band_option,
    safe_csv_option,
    shard_option,
    spread_options,
)
from mismatch.cli.output_file import names_folder
from mismatch.cli.parts import hold, part_file
from mismatch.cli.progress import progress_bar
from mismatch.cli.tables import (
    COLUMNS,
    CsvTable,
    JsonLinesTable,
    ParquetTable,
    RowWriter,
    Table,
    fields,
    table_kind,
)
from mismatch.data.columns import locate_image
from mismatch.data.folders import TitledImages
from mismatch.data.pairs import (
    DELIMITERS,
    Columns,
    Row,
    all_columns,
    read_header,
    read_rows,
    rows_files,
    source_digest,
)
from mismatch.errors import CheckpointError, InputError
from mismatch.files import SHOWN, atomic_binary, atomic_file
from mismatch.jobs.scored_rows import predict_rows
from mismatch.jobs.table_kinds import table
from mismatch.outputs import check_outputs
from mismatch.remote import Remote, is_url, located

if TYPE_CHECKING:
    from mismatch.runtime.pipeline import Engine
    from mismatch.runtime.predictor import Prediction, Predictor

__all__ = [
    "COLUMNS",
    "Counts",
    "RowWriter",
    "Source",
    "box",
    "command",
    "described",
    "fields",
    "hopeless",
    "kept_columns",
    "load_predictor",
    "long_texts",
    "windows",
    "write_predictions",
]

RULE = "=" * 50
SCORES = table("a table of predictions", COLUMNS)
STANDARD_OUTPUT = "-"
Entry = tuple["Prediction", Sequence[str]]  # with the values of the kept columns
Order = Callable[[Iterable[list[Entry]]], Iterable[list[Entry]]]


@click.command(short_help="Score one pair, a CSV of pairs, or a folder.")
@model_options
@click.option("--image", type=click.Path(path_type=Path), help="One image; goes with --text.")
@click.option("--text", help="One text; goes with --image.")
@click.option(
    "--csv",
    "csv_file",
    type=LocationType(),
    help=(
        "Rows image_path,text; also TSV, JSONL, Parquet, a datasets folder. A path, or a URL:"
        " s3://, gs://, abfs://."
    ),
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of images; --titles says what they show, or a .txt beside each.",
)
@click.option(
    "--titles",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=(
        "CSV with columns image_path,text or file,title, or lines NAME, tab, TITLE; names below"
        " --images."
    ),
)
@fetching_row_options
@click.option(
    "--output",
    default=STANDARD_OUTPUT,
    show_default=True,
    help=(
        "Table to write: NAME.tsv is TSV, NAME.jsonl JSON lines, NAME.parquet Parquet, any other"
        " name CSV; - is CSV on standard output."
    ),
)
@click.option(
    "--resume",
    is_flag=True,
    help=(
        "Go on with an --output that was cut short, CSV or JSON lines; it ends the same to the"
        " byte."
    ),
)
@click.option(
    "--cache",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of embeddings: only images and texts that it lacks are encoded.  [default: none]",
)
@shard_option
@click.option(
    "--sort",
    type=click.Choice(["score"]),
    help=(
        "Lowest score first, ties in the rows' order, rows without a score last. All rows are held"
        " in memory; with --top only N."
    ),
)
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(1),
    help="Only the N rows that --sort score puts first, which it implies.",
)
@click.option(
    "--threshold",
    type=float,
    help="Score from which a pair is a match.  [default: the model's own]",
)
@review_band_option
@click.option(
    "--slice-value",
    metavar="VALUE",
    help="Of one pair, in the column by which the model has thresholds; rows have the column.",
)
@long_text_option
@spread_options
@safe_csv_option
@click.option(
    "--keep-columns",
    is_flag=True,
    help="Copy the CSV's other columns behind the scores, a `status` as `input_status`.",
)
def command(
    image: Path | None,
    text: str | None,
    csv_file: Path | Remote | None,
    images: Path | None,
    titles: Path | None,
    **options: Any,
) -> None:
    """Score one pair (--image, --text), a CSV of pairs (--csv) or a folder of images with titles
    (--images).
    """
    base = options.pop("image_base_path")
    columns = options.pop("columns")
    if sum((image is not None or text is not None, csv_file is not None, images is not None)) != 1:
        raise click.UsageError(
            "give either --image and --text for one pair, or --csv or --images for many"
        )
    if csv_file is None and replace(columns, inside="") != Columns():
        raise click.UsageError(
            "--image-column, --text-column, --label-column, --label-map and --multi-image go with"
            " --csv"
        )
    if options["slice_value"] is not None and image is None:
        raise click.UsageError(
            "--slice-value goes with --image and --text; rows have their value in a column"
        )
    if titles is not None and images is None:
        raise click.UsageError(
            "--titles goes with --images, the folder that its names are relative to"
        )
    if images is not None:
        if base:
            raise click.UsageError(
                "--image-base-path goes with --csv; --images is a folder already"
            )
        allowed = click.get_current_context().params["allow_outside_images"]
        _predict_many(
            _folder_source(images, titles, Columns(inside="" if allowed else str(images))), options
        )
    elif csv_file is not None:
        _predict_many(
            _csv_source(csv_file, base, columns, all_kept=options["keep_columns"]), options
        )
    elif image is None or text is None:
        raise click.UsageError(
            f"--image and --text go together; {'--text' if text is None else '--image'} is missing"
        )
    elif options["engine"] == "ray":
        raise click.UsageError("--engine ray goes with --csv and --images")
    elif any(options[name] for name in MANY) or options["output"] != STANDARD_OUTPUT:
        raise click.UsageError(
            f"--output, {', '.join(f'--{name}' for name in MANY).replace('_', '-')} go with --csv"
            " and --images; one pair is printed"
        )
    else:
        _predict_one(locate_image(located(base), str(image)), text, options)


SPREAD = ("actors", "ray_address", "block_rows")  # options of --engine ray
SAFE = {kind: f"{kind} without formulas" for kind in DELIMITERS}  # kinds of tables
# options that one pair has no use for
MANY = ("keep_columns", "safe_csv", "resume", "cache", "shard", "sort", "top")


def _predict_one(image: Path | Remote, text: str, options: dict[str, Any]) -> None:
    predictor = load_predictor(options)
    result = predictor.predict(image, text, slice_value=options["slice_value"])
    if result.similarity_score is None:
        raise CheckpointError(f"{options['model']}: {result.status}")
    click.echo(box(result))
    if line := long_texts(predictor):
        click.echo(line, err=True)


def box(result: Prediction) -> str:
    """A prediction for people; programs read the CSV."""
    lines = [
        RULE,
        "CLIP Mismatch Detection Result",
        RULE,
        f"Image: {result.image_path}",
        f"Text: {result.text}",
        f"Similarity Score: {result.similarity_score:.4f}",
        f"Threshold: {_short(result.threshold)}",
        f"Prediction: {result.prediction.upper()}",
        f"Is Match: {result.is_match}",
        RULE,
    ]
    return "\n".join(lines)


def load_predictor(options: dict[str, Any]) -> Predictor:
    """What `model_options`, --threshold and --long-text ask for."""
    import mismatch

    return mismatch.load(
        options["model"],
        options["provider"],
        options["threads"],
        threshold=options.get("threshold"),
        review=options.get("review_band"),
        batch_size=options["batch_size"],
        workers=options["num_workers"],
        long_text=options.get("long_text"),
        cache=options.get("cache"),
        decoder=options.get("decoder"),
    )


def long_texts(predictor: Predictor) -> str | None:
    """What to say of the texts over the context that have been scored so far, if there were any."""
    from mismatch.runtime.chunks import long_texts_line

    pipeline = predictor.pipeline
    stored = predictor.engine.score
    if not pipeline.long_texts:
        return None
    line = long_texts_line(
        pipeline.long_texts,
        predictor.engine.text_spec.context_length,
        pipeline.long_text,
        advise=True,
    )
    other = stored.long_text != pipeline.long_text and (stored.threshold or stored.calibration)
    return (
        f"{line}; the model's calibration and threshold are of --long-text {stored.long_text}"
        if other
        else line
    )


@dataclass(frozen=True)
class Source:
    """Where rows come from."""

    name: str  # for messages
    files: tuple[Path, ...]  # that no output may replace
    base: str  # folder of the images, or URL
    header: list[str]
    rows: Callable[[], Iterator[Row]]
    digest: Callable[[], str]  # of all that the rows say
    notes: Callable[[], list[str]] = list  # lines for people, once all rows have been read
    columns: Columns | None = None


def _csv_source(path: Path | Remote, base: str, columns: Columns, *, all_kept: bool) -> Source:
    """`all_kept`: JSON lines are read once more beforehand, since keys may come late."""
    header_of = all_columns if all_kept else read_header
    # a wrong file is refused before a model is loaded
    header = header_of(path, require_label=False, columns=columns)
    rows = partial(read_rows, path, require_label=False, columns=columns)
    digest = partial(source_digest, path, columns)
    return Source(str(path), tuple(rows_files(path)), base, header, rows, digest, columns=columns)


def _folder_source(folder: Path, titles: Path | None, columns: Columns) -> Source:
    found = TitledImages(folder, titles, outside=not columns.inside)
    own = (titles,) if titles else ()
    rows = partial(_confined, found, columns)
    return Source(
        str(titles or folder),
        own,
        str(folder),
        found.header,
        rows,
        found.digest,
        found.notes,
        columns=columns,
    )


def _confined(found: TitledImages, columns: Columns) -> Iterator[Row]:
    """The rows, each that leads out of the folder with that as its problem."""
    for row in found.rows():
        yield row if row.problem else row._replace(problem=columns.path_problem(row.image_path))


@dataclass
class Counts:
    """How far the work is."""

    rows: int = 0
    failed: int = 0
    long_texts: int = 0


@dataclass
class Sink:
    """Where entries go, and what is called when a window of them has gone there."""

    table: Table
    # at first of an earlier run's rows, which stand there already
    counts: Counts = field(default_factory=Counts)
    commit: Callable[[], object] = lambda: None


def _predict_many(source: Source, options: dict[str, Any]) -> None:
    if options["engine"] == "ray":
        if options["sort"] or options["top"] or options["safe_csv"]:
            raise click.UsageError(
                "--sort, --top and --safe-csv go with --engine local; ray writes parts of Parquet"
                " in the rows' order"
            )
        from mismatch.cli.spread import predict_spread

        predict_spread(source, options)
        return
    if given := [
        f"--{name.replace('_', '-')}"
        for name in SPREAD
        if click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT
    ]:
        raise click.UsageError(f"{', '.join(given)} go{'es' * (len(given) == 1)} with --engine ray")
    output = options["output"]
    top = options["top"]
    ranked = bool(top or options["sort"])
    kind = _check_output(output, source, options)
    kept = kept_columns(source.header) if options["keep_columns"] else {}
    if output != STANDARD_OUTPUT:
        hold(output)
    predictor = load_predictor(options)
    rows = source.rows() if options["shard"] is None else options["shard"].of(source.rows())
    resumable = not ranked and kind != "parquet" and _is_plain(output)
    run = described(predictor, source, options, kind, kept) if resumable else None
    with _sink(output, kind, list(kept.values()), run, options["resume"]) as sink:
        _score(
            predictor,
            rows,
            source,
            list(kept),
            sink,
            (lambda windows: [_lowest(windows, top)]) if ranked else None,
        )
    counts = sink.counts
    done = counts.rows - counts.failed
    chosen = f", the {min(top, counts.rows):,} lowest" if top else ""
    where = "" if output == STANDARD_OUTPUT else f"{chosen} → {output}"
    failed = f"; {counts.failed:,} could not be: see their status" if counts.failed else ""
    click.echo(f"{done:,} rows scored{where or chosen}{failed}", err=True)
    for line in (*source.notes(), long_texts(predictor)):
        if line:
            click.echo(line, err=True)
    if counts.failed and not done:
        raise hopeless(source, counts.failed)


def hopeless(source: Source, failed: int) -> InputError:
    """What to say where no row could be scored."""
    why = (
        "their status says why"
        if is_url(source.name) or is_url(source.base)
        else "mismatch validate says why row by row"
    )
    return InputError(f"{source.name}: not one of its {failed:,} rows could be scored; {why}")


def _check_output(output: str, source: Source, options: dict[str, Any]) -> str:
    """The kind of table; refuses what can't be written before a model is loaded."""
    if is_url(output):
        raise InputError(
            f"--output {located(output)} is a URL, and one file is written here; add --engine ray,"
            " which writes parts there, or name a file"
        )
    if names_folder(output):
        raise InputError(
            f"--output {output} names a folder, and a file is written; leave out what follows its"
            " name"
        )
    if output != STANDARD_OUTPUT:
        check_outputs([("--output", Path(output), SCORES)], source.files)
    kind = table_kind(output)
    if options["safe_csv"]:
        if kind not in SAFE:
            raise click.UsageError(
                f"--safe-csv goes with CSV, and {output} is none: no spreadsheet runs what is in it"
            )
        kind = SAFE[kind]
    if options["resume"]:
        if options["sort"] or options["top"]:
            raise click.UsageError(
                "with --sort or --top nothing is written before the end, so there is nothing to"
                " resume; --cache keeps what is encoded"
            )
        if kind == "parquet":
            raise click.UsageError(
                "--resume goes with CSV and JSON lines; Parquet is written whole, and --cache keeps"
                " what is encoded"
            )
        if not _is_plain(output):
            raise click.UsageError("--resume needs an --output that is a file")
    return kind


def _is_plain(output: str) -> bool:
    return output != STANDARD_OUTPUT and (Path(output).is_file() or not Path(output).exists())


def kept_columns(header: Iterable[str]) -> dict[str, str]:
    """The input's columns → what they are called behind the scores; one that would clash with a
    score's name is `input_…`.
    """
    taken = {*COLUMNS, *header}
    kept = {}
    for name in header:
        if name in ("image_path", "text"):
            continue
        new = name
        while new in COLUMNS or (new != name and new in taken):
            new = f"input_{new}"
        taken.add(new)
        kept[name] = new
    return kept


def write_predictions(
    file: TextIO, rows: Iterable[Row], predictor: Predictor, base: str, kept: dict[str, str]
) -> tuple[int, int]:
    """Stream rows through the predictor into CSV; returns how many were scored and how many not."""
    sink = Sink(CsvTable(file, list(kept.values())))
    sink.table.begin()
    _score(predictor, rows, Source("rows", (), base, [], lambda: iter(rows), str), list(kept), sink)
    return sink.counts.rows - sink.counts.failed, sink.counts.failed


def _score(
    predictor: Predictor,
    rows: Iterable[Row],
    source: Source,
    kept: Sequence[str],
    sink: Sink,
    ordered: Order | None = None,
) -> None:
    """Rows into a sink, a window at a time; those that it has are not looked at again."""
    counts = sink.counts
    predictor.pipeline.long_texts += counts.long_texts
    with progress_bar("predict", unit="row") as advance:
        found = windows(predictor, islice(rows, counts.rows, None), source, kept, counts, advance)
        for entries in found if ordered is None else ordered(found):
            for prediction, values in entries:
                sink.table.add(prediction, values)
            sink.commit()


def windows(
    predictor: Predictor,
    rows: Iterator[Row],
    source: Source,
    kept: Sequence[str],
    counts: Counts,
    advance: Callable[..., None],
) -> Iterator[list[Entry]]:
    """Windows whose scores don't depend on each other, not in the last digit either, so that a run
    can be cut between any two: where an embedding depends on its batch, each window forgets what
    those before it have encoded.
    """
    from mismatch.runtime import pipeline

    known = pipeline.Known.nothing() if predictor.engine.independent else None
    while window := list(islice(rows, pipeline.WINDOW)):
        entries: list[Entry] = []
        for row, prediction in predict_rows(predictor, window, source.base, source.columns, known):
            entries.append((prediction, [row.columns.get(name, "") for name in kept]))
            counts.failed += prediction.status != "ok"
            advance(1)
        counts.rows += len(window)
        counts.long_texts = predictor.pipeline.long_texts
        yield entries


def _lowest(windows: Iterable[list[Entry]], top: int | None) -> list[Entry]:
    """The `top` lowest scores, of which no more are held, or all; ties in the order of the rows,
    rows without a score behind the others.
    """
    entries = chain.from_iterable(windows)
    return (
        sorted(entries, key=_suspicion)
        if top is None
        else heapq.nsmallest(top, entries, key=_suspicion)
    )


def _suspicion(entry: Entry) -> tuple[bool, float]:
    score = entry[0].similarity_score
    return score is None, score or 0.0


def _short(value: float) -> str:
    """At most four decimals, no trailing zeros: 0.25."""
    return f"{value:.4f}".rstrip("0").removesuffix(".")


@contextmanager
def _sink(
    output: str, kind: str, kept: Sequence[str], run: dict[str, Any] | None, resume: bool
) -> Iterator[Sink]:
    """A table in the file, pipe or device of this name. With `run`, what it is made of, a file that
    can be continued.
    """
    if run is not None:
        with part_file(output, run, resume=resume) as part:
            sink = Sink(
                _text_table(kind, part.text, kept),
                Counts(**part.counts),
                lambda: part.commit(asdict(sink.counts)),
            )
            if not part.counts["rows"]:
                sink.table.begin()
            yield sink
            sink.table.end()
            sink.commit()
    elif kind == "parquet":
        with atomic_binary(output) as file, ParquetTable(file, kept) as table:
            yield from _whole(table)
    elif output == STANDARD_OUTPUT:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # whatever the terminal's own: the bytes are those of a file
            sys.stdout.reconfigure(encoding="utf-8", errors=SHOWN)
        yield from _whole(_text_table(kind, sys.stdout, kept))
        sys.stdout.flush()
    else:
        with atomic_file(output) as text:
            yield from _whole(_text_table(kind, text, kept))


def _whole(table: Table) -> Iterator[Sink]:
    table.begin()
    yield Sink(table)
    table.end()


def _text_table(kind: str, file: TextIO, kept: Sequence[str]) -> Table:
    if kind == "jsonl":
        return JsonLinesTable(file, kept)
    return CsvTable(
        file, kept, safe=kind in SAFE.values(), delimiter=DELIMITERS[kind.partition(" ")[0]]
    )


def described(
    predictor: Predictor, source: Source, options: dict[str, Any], kind: str, kept: dict[str, str]
) -> dict[str, Any]:
    """All that the bytes of the output depend on, by a name for people."""
    engine = predictor.engine
    return {
        "the model": [engine.fingerprint, _head_digest(engine), asdict(engine.score)],
        "the engine": {
            name: value for name, value in engine.describe().items() if name != "threads"
        },
        "the rows": [source.digest()],
        "the images' folder": source.base or ".",
        "--threshold": predictor.threshold,
        "--review-band": predictor.review and asdict(predictor.review),
        "--long-text": predictor.pipeline.long_text,
        "--batch-size": "any" if engine.independent else predictor.pipeline.batch_size,
        "--shard": str(options["shard"] or "none"),
        "--keep-columns": list(kept.items()),
        "the format": kind,
    }


def _head_digest(engine: Engine) -> str:
    """Of a head, which the fingerprint leaves out: what it says of a few fixed embeddings."""
    import numpy as np

    chance = np.random.default_rng(0)
    images, texts = (
        chance.standard_normal((8, width)).astype(np.float32)
        for width in (engine.image_width, engine.text_width)
    )
    return hashlib.sha256(np.ascontiguousarray(engine.logits(images, texts)).tobytes()).hexdigest()
