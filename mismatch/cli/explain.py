"""`mismatch explain`: which words don't fit, what other words would do, and where the image speaks
for or against; see `mismatch.explain` and `mismatch.explain_rows`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.explanation_lines import explanation_lines
from mismatch.cli.options import (
    job_row_options,
    long_text_option,
    model_options,
)
from mismatch.cli.output_file import names_folder
from mismatch.cli.predict import PLAIN

if TYPE_CHECKING:
    from mismatch.runtime.explanation import Explanation

__all__ = ["command"]

FILES = (".png", ".json")  # endings of --output that name a file; anything else is a folder


class FileOrFolder(click.Path):
    """A path; NAME.json/ would be a folder, and is refused: whether there is a slash
    is lost later.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if names_folder(value) and Path(value).suffix.lower() in FILES:
            self.fail(
                f"{value} names a folder, and {' and '.join(FILES)} are files; leave out what"
                " follows the name",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


@click.command(short_help="Which words don't fit, and where in the image that shows.")
@model_options
@click.option("--image", type=click.Path(path_type=Path), help="One image; goes with --text.")
@click.option("--text", help="One text; goes with --image.")
@click.option(
    "--csv",
    "rows",
    type=click.Path(path_type=Path),
    help="Rows image_path,text, the worst of which are explained; with labels, the worst errors.",
)
@job_row_options
@click.option(
    "--worst",
    metavar="N",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="How many rows of --csv.",
)
@click.option(
    "--output",
    type=FileOrFolder(path_type=Path),
    metavar="PATH",
    help=(
        "NAME.png: a picture with the heat map (one pair); NAME.json: figures; any other name is a"
        " folder for both."
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--no-heat-map",
    is_flag=True,
    help="Look at words only, which takes one pass of the image instead of fifty.",
)
@click.option(
    "--no-lexicon",
    is_flag=True,
    help="Don't try other words; which words are named does not depend on it.",
)
@click.option(
    "--lexicon",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML with classes of words of your own, as `shape: [round, square]`.",
)
@click.option(
    "--threshold",
    type=float,
    help="Score from which a pair is a match.  [default: the model's own]",
)
@click.option(
    "--slice-value",
    metavar="VALUE",
    help="Of one pair, in the column by which the model has thresholds; rows have the column.",
)
@long_text_option
def command(model: str, rows: Path | None, as_json: bool, **options: Any) -> None:
    """Say which words of a text don't fit its image (--image, --text), or those of the worst rows
    of a file (--csv).

    Each word and each phrase is left out once, and words of the lexicon (colours, materials,
    counts, …) are exchanged for others; the scores of all these texts say what each does. Words are
    named only where the model takes the pair for no match. For the heat map, parts of the image are
    covered. All of it is the model's view: it says what the score hangs on, not what is true.
    """
    _check(rows, options)
    output = options["output"]
    if rows is None:
        one = _of_pair(model, options)
        found: list[tuple[int | None, Explanation]] = [(None, one)]
        plain: Any = one.to_dict()
    else:
        from mismatch.jobs.explain_rows import explain_rows

        for name in ("image", "text", "slice_value"):
            del options[name]
        result = explain_rows(model, rows, **options)
        found = [(row.line, row.explanation) for row in result.explanations]
        plain = result.to_dict()["explanations"]
    if as_json:
        from mismatch.io.atomic import finite

        click.echo(json.dumps(finite(plain), indent=2, ensure_ascii=False))
    else:
        click.echo("\n\n".join(_texts(found)), nl=bool(found))
    if output is not None:
        click.echo(f"written to {output}", err=True)


def _texts(found: list[tuple[int | None, Explanation]]) -> Iterator[str]:
    colour = sys.stdout.isatty()
    for line, one in found:
        yield "\n".join(explanation_lines(one, colour=colour, line=line))


def _check(rows: Path | None, options: dict[str, Any]) -> None:
    """Raise UsageError for options that don't go together, before a model is loaded."""
    missing = [name for name in ("image", "text") if options[name] is None]
    if (len(missing) < 2) == (rows is not None):
        raise click.UsageError(
            "give either --image and --text for one pair, or --csv for the worst rows of a file"
        )
    if rows is not None:
        if options["slice_value"] is not None:
            raise click.UsageError(
                "--slice-value goes with --image and --text; rows have their value in a column"
            )
        return
    if missing:
        raise click.UsageError(f"--image and --text go together; --{missing[0]} is missing")
    if any(options[name] != default for name, default in PLAIN.items()):
        raise click.UsageError(
            "--image-column, --text-column, --label-column, --label-map and --multi-image go with"
            " --csv"
        )


def _of_pair(model: str, options: dict[str, Any]) -> Explanation:
    """Explain one pair, and write it where that is asked for."""
    from mismatch.jobs.explain_rows import open_lexicon
    from mismatch.jobs.locking import lock_file, lock_folder
    from mismatch.jobs.options import MODEL_DEFAULTS, isolated_decoding, open_predictor
    from mismatch.jobs.output.explanation_files import (
        check_explanation_output,
        names_file,
        write_explanation,
    )
    from mismatch.runtime.explain import explain

    lexicon = open_lexicon(options["lexicon"], no_lexicon=options["no_lexicon"])
    output = options["output"]
    image = Path(options["image_base_path"]) / options["image"]
    with ExitStack() as stack:
        if output is not None:
            lexicon_file = options["lexicon"]
            check_explanation_output(output, [image, *([lexicon_file] if lexicon_file else [])])
            lock = lock_file if names_file(output) else lock_folder
            stack.enter_context(lock(output))
        stack.enter_context(isolated_decoding(options["isolate_decoding"]))
        predictor = open_predictor(
            model,
            {name: options[name] for name in MODEL_DEFAULTS},
            threshold=options["threshold"],
            long_text=options["long_text"],
        )
        found = explain(
            predictor,
            image,
            options["text"],
            heat_map=not options["no_heat_map"],
            lexicon=lexicon,
            slice_value=options["slice_value"],
        )
        if output is not None:
            write_explanation(output, found)
    return found
