"""`mismatch make-negatives`: a labelled set from matching pairs alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.number_types import SEED
from mismatch.cli.options import row_options
from mismatch.cli.output_file import OutputFile
from mismatch.cli.parts import hold
from mismatch.cli.pictures import Pictures, picture_options
from mismatch.data.columns import Columns
from mismatch.jobs.table_kinds import exact_table, refuse_unasked
from mismatch.outputs import check_outputs

if TYPE_CHECKING:
    from mismatch.data.lexicon import Lexicon
    from mismatch.data.negatives import Negatives, Neighbours

__all__ = ["command", "read_lexicon"]

WARN_FROM = 0.55  # blind AUROC
ADDED = ("label", "kind")


class Shares(click.ParamType[dict[str, float]]):
    """`random=0.5,hard=0.5`."""

    name = "shares"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, dict):
            return value
        shares: dict[str, float] = {}
        for part in value.split(","):
            kind, _, share = part.partition("=")
            try:
                shares[kind.strip()] = float(share or 1)
            except ValueError:
                self.fail(f"{part!r} is not KIND=SHARE, as hard=0.3", param, ctx)
        return shares


@dataclass
class _Matches:
    """The rows that match, and those that can't be used."""

    header: list[str]
    rows: list[dict[str, str]] = field(default_factory=list)
    pictures: Pictures = field(default_factory=Pictures)
    mismatches: int = 0  # rows labelled 0, which are left out
    unusable: list[tuple[int, str]] = field(default_factory=list)


@click.command(short_help="Make mismatches from matching pairs.")
@click.argument("csv_file", metavar="CSV", type=click.Path(path_type=Path))
@click.option(
    "--output",
    required=True,
    type=OutputFile(),
    help="Matches and mismatches, with a column `kind`: .csv, .tsv, .jsonl, .parquet.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace an --output that was made earlier from rows with the same columns.",
)
@click.option(
    "--kinds",
    type=Shares(),
    default="random=0.5,hard=0.3,attribute=0.2",
    show_default=True,
    help=(
        "random: another row's text; hard: one much like the own; attribute: the own with a colour,"
        " material, count, … exchanged."
    ),
)
@click.option(
    "--per-positive",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    help="Mismatches for each match.",
)
@click.option(
    "--lexicon",
    "lexicon_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML with classes of words of your own, as `shape: [round, square]`.",
)
@click.option(
    "--backbone",
    metavar="FAMILY[:MODEL]",
    help="Take this backbone's texts' embeddings for hard mismatches.  [default: common words]",
)
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="Another seed makes other mismatches."
)
@picture_options
@row_options
def command(csv_file: Path, output: Path, columns: Columns, **options: Any) -> None:
    """Make a labelled set from a file of matching pairs image_path,text (rows labelled 0 are left
    out).

    Never a text that fits the image too: of a near-duplicate image, or one that says much the same.
    Texts are exchanged among rows, so that each is a mismatch as often as a match where possible,
    and the labels can't be told from the texts alone; how well they can is reported as blind AUROC.
    Split first, then make mismatches in each part.
    """
    from mismatch.data.lexicon import Lexicon
    from mismatch.data.negatives import make_negatives
    from mismatch.data.pairs import rows_files
    from mismatch.errors import InputError
    from mismatch.jobs.row_tables import check_table

    check_table(output)
    lexicon_files = [options["lexicon_file"]] if options["lexicon_file"] else []
    check_outputs([("--output", output, None)], [*rows_files(csv_file), *lexicon_files])
    refuse_unasked("--output", [output], overwrite=options["overwrite"])
    hold(output)
    lexicon = Lexicon(read_lexicon(options["lexicon_file"]))
    matches = _read(csv_file, columns)
    check_outputs(
        [
            (
                "--output",
                output,
                exact_table("a table of such matches and mismatches", lambda: matches.header),
            )
        ]
    )
    images, broken = matches.pictures.groups(
        options["image_base_path"], look=options["near_duplicates"], workers=options["num_workers"]
    )
    good = [row not in broken for row in range(len(images))]  # the others' images can't be read
    matches.unusable += [(0, reason) for reason in broken.values()]
    matches.rows = list(compress(matches.rows, good))
    images = list(compress(images, good))
    if len(matches.rows) < 2:
        where = "".join(f"; line {line}: {reason}" for line, reason in matches.unusable[:1])
        raise InputError(f"{csv_file}: two or more matching rows are needed{where}")
    neighbours = _embedded(options["backbone"]) if options["backbone"] else None
    made = make_negatives(
        [row["text"] for row in matches.rows],
        images,
        shares=options["kinds"],
        per_positive=options["per_positive"],
        seed=options["seed"],
        lexicon=lexicon,
        neighbours=neighbours,
    )
    _write(output, matches, made)
    click.echo("\n".join(_said(csv_file, output, matches, images, made, lexicon)))


def _read(csv_file: Path, columns: Columns) -> _Matches:
    from mismatch.data.pairs import read_header, read_rows

    header = read_header(csv_file, require_label=False, columns=columns)
    matches = _Matches([*header, *(name for name in ADDED if name not in header)])
    for row in read_rows(csv_file, require_label="label" in header, columns=columns):
        if row.problem:
            matches.unusable.append((row.line, row.problem))
        elif row.label == 0:
            matches.mismatches += 1
        else:
            matches.rows.append(row.columns)
            matches.pictures.add(columns.images(row.image_path))
    # of JSON lines, whose later objects may have others
    keys = dict.fromkeys(name for row in matches.rows for name in row)
    matches.header += [name for name in keys if name not in matches.header]
    return matches


def read_lexicon(path: Path | None) -> Mapping[str, Sequence[str]] | None:
    """Classes of one's own, from YAML."""
    if path is None:
        return None
    from mismatch.errors import InputError, MissingExtraError
    from mismatch.files import read_text

    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("--lexicon", "audit") from error
    try:
        found = yaml.safe_load(read_text(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or not all(
        isinstance(kind, str) and isinstance(families, list) for kind, families in found.items()
    ):
        raise InputError(
            f'{path}: classes of words are needed, as `shape: ["round, circular", square]`'
        )
    return found


def _embedded(backbone: str) -> Neighbours:
    """Neighbours by a backbone's embeddings of the texts."""
    import numpy as np

    import mismatch
    from mismatch.data.negatives import nearest

    predictor = mismatch.load(backbone if ":" in backbone else f"{backbone}:", "auto")

    def neighbours(texts: Sequence[str], count: int) -> Any:
        rows = np.asarray(predictor.encode_texts(list(texts)), np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9
        return nearest(
            (rows[start : start + 1000] @ rows.T for start in range(0, len(rows), 1000)), count
        )

    return neighbours


def _write(output: Path, matches: _Matches, made: Negatives) -> None:
    """Each match, and behind it its mismatches."""
    from mismatch.jobs.row_tables import row_table

    of_row: dict[int, list[tuple[str, str]]] = {}
    for one in made.made:
        of_row.setdefault(one.row, []).append((one.text, one.kind))
    with row_table(output, matches.header) as table:
        for number, row in enumerate(matches.rows):
            for text, kind in ((row["text"], "match"), *of_row.get(number, ())):
                values = {**row, "text": text, "label": int(kind == "match"), "kind": kind}
                table.writerow([values.get(name, "") for name in matches.header])


def _said(
    csv_file: Path,
    output: Path,
    matches: _Matches,
    images: Sequence[int],
    made: Negatives,
    lexicon: Lexicon,
) -> Iterator[str]:
    from mismatch.data.blind import LEAST_ROWS, blind_text_auroc, telltales
    from mismatch.data.pairs import place

    kinds = ", ".join(f"{count:,} {kind}" for kind, count in made.counts().items())
    yield f"{output}: {len(matches.rows):,} matches and {len(made.made):,} mismatches ({kinds})"
    if made.missing:
        yield (
            f"warning: {len(made.missing):,} mismatches could not be made: every text that was"
            " looked at may fit the image too"
        )
    if matches.mismatches:
        yield f"{_rows(matches.mismatches)} labelled 0 left out"
    if matches.unusable:
        line, reason = matches.unusable[0]
        where = f"{place(csv_file, line)}: " if line else ""
        yield (
            f"warning: {_rows(len(matches.unusable))} that can't be used left out"
            f" ({where}{reason}{'; …' if len(matches.unusable) > 1 else ''})"
        )
    texts = [row["text"] for row in matches.rows] + [one.text for one in made.made]
    labels = [1] * len(matches.rows) + [0] * len(made.made)
    if len(texts) < LEAST_ROWS:
        return
    auroc = blind_text_auroc(texts, labels, [*images, *(images[one.row] for one in made.made)])
    yield (
        f"blind AUROC of the texts alone: {auroc:.3f} (0.5 is best: labels can't be told without"
        " the images)"
    )
    if auroc > WARN_FROM:
        words = ", ".join(
            f"{told.word!r} ({told.mismatches:.0%} of {told.rows} rows are mismatches)"
            for told in telltales(texts, labels, count=3)
        )
        yield (
            f"warning: the texts give labels away, by words as {words}; fewer attribute mismatches,"
            " or more rows, help"
        )


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"
