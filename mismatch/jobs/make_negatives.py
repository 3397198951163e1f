"""A labelled set from matching pairs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from itertools import compress
from pathlib import Path
from typing import Any, Unpack

from mismatch.data import negatives
from mismatch.data.lexicon import Lexicon
from mismatch.data.pairs import format_location, rows_files
from mismatch.data.readers.memory import RowsLike
from mismatch.data.unimodal_baselines import (
    LEAST_ROWS,
    Telltale,
    blind_pair_auroc,
    blind_text_auroc,
    telltales,
)
from mismatch.errors import InputError
from mismatch.io.atomic import together
from mismatch.io.outputs import check_outputs
from mismatch.io.replacing import remove_earlier
from mismatch.io.text import printable
from mismatch.jobs.lexicon_file import read_lexicon
from mismatch.jobs.locking import lock_file
from mismatch.jobs.memory_rows import in_memory, keep_rows
from mismatch.jobs.negative_backbone import NegativeBackbone
from mismatch.jobs.negative_rows import (
    Labelled,
    Matches,
    doubtful_path,
    labelled_doubtful,
    labelled_rows,
    read_matches,
    rows_in_memory,
    write_rows,
)
from mismatch.jobs.options import RowOptions, RowSettings, RowSource, open_rows
from mismatch.jobs.results import Result, as_json
from mismatch.jobs.row_tables import check_table
from mismatch.jobs.table_kinds import exact_table, refuse_unasked
from mismatch.jobs.value_checks import check_whole_number, checked
from mismatch.reports.negatives_lines import WARN_FROM, negatives_lines
from mismatch.runtime.predictor import Predictor

__all__ = ["NegativesResult", "make_negatives"]

TELLTALES = 3  # words that are kept
KINDS = "random=0.5,hard=0.3,attribute=0.2"
MAX_PER_POSITIVE = 20
OPTION = "`output`"


@dataclass(frozen=True)
class NegativesResult(Result):
    """Matches with the mismatches that were made of them.

    `matches`: rows that are matches.
    `mismatches`: rows that were made.
    `kinds`: how many mismatches are "random", "hard" and "attribute".
    `missing`: mismatches that could not be made: every text may fit the image too.
    `doubtful`: mismatches that are kept apart, as they may fit the image too.
    `likely_true`: estimated share of the mismatches that fit the image all the same, 0..1.
    `told`: how many mismatches of a kind were left out, as the texts alone told them.
    `labelled_mismatches`: rows labelled 0, which are left out.
    `unusable`: rows that can't be used, which are left out.
    `first_problem`: why the first of these can't be used, and its place; None where there are none.
    `blind_auroc`: AUROC with which the texts alone tell the labels, 0.5 is best; None of too few
        rows.
    `blind_aurocs`: the same for each kind, its texts against the rows' own.
    `telltales`: words that give labels away most; empty where the AUROC is low.
    `rows`: the file that was written; without `output` the rows, with columns for the label and
        `kind`: a table of pandas where `rows` was one, else a list of mappings.
    `doubtful_rows`: the same of the doubtful mismatches; None where there are none. Their file
        stands next to the other, as NAME.doubtful.csv.
    """

    matches: int
    mismatches: int
    kinds: dict[str, int]
    missing: int
    doubtful: int
    likely_true: float
    told: dict[str, int]
    labelled_mismatches: int
    unusable: int
    first_problem: str | None
    blind_auroc: float | None
    blind_aurocs: dict[str, float]
    telltales: list[Telltale]
    rows: Any = field(repr=False)
    doubtful_rows: Any = field(repr=False)

    def summary(self) -> list[str]:
        """Return it for people, a line each."""
        return list(map(printable, negatives_lines(self)))

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, without rows, with plain JSON types only."""
        left_out = ("rows", "doubtful_rows", "telltales")
        names = [item.name for item in fields(self) if item.name not in left_out]
        words = [word._asdict() for word in self.telltales]
        return {name: as_json(getattr(self, name)) for name in names} | {"telltales": words}


@dataclass(frozen=True)
class _Choice:
    """Which mismatches are made."""

    shares: Mapping[str, float]  # kind → its share, 0..1
    per_positive: int
    seed: int
    near_duplicates: bool
    num_workers: int | None


@checked
def make_negatives(
    rows: RowsLike,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    kinds: str | Mapping[str, float] = KINDS,
    per_positive: int = 1,
    lexicon: str | Path | Mapping[str, Sequence[str]] | None = None,
    backbone: str | Predictor | None = None,
    seed: int = 0,
    near_duplicates: bool = True,
    num_workers: int | None = None,
    **options: Unpack[RowOptions],
) -> NegativesResult:
    """Make a labelled set from matching pairs image_path,text; rows labelled 0 are left out.

    No mismatch has a text that fits the image too; those whose text may fit it are kept apart. Rows
    exchange texts or words, so that each is a mismatch as often as a match where possible, and the
    labels can't be told from the texts alone. Split first, then make mismatches in each part.

    `output`: .csv, .tsv, .jsonl or .parquet for matches and mismatches with a column `kind`, and
    NAME.doubtful.csv for doubtful mismatches; None: the result holds the rows. `overwrite`: replace
    one that was made earlier from rows with the same columns. `kinds`: shares of mismatches,
    random: another row's text; hard: one much like the own; attribute: the own with a colour,
    material, count, … exchanged. `per_positive`: mismatches for each match, 1..20. `lexicon`:
    classes of words of your own, or a YAML file of them. `backbone`: take its embeddings of the
    texts for hard mismatches, and of the images against texts that fit them too; None: words alone.
    `seed`: another one makes other mismatches. `near_duplicates`: look at the images for them.
    `num_workers`: threads that decode images; None: one per CPU.

    Raises InputError for rows or options that can't be used; then nothing was written.
    """
    settings = RowSettings.of(options)
    check_whole_number("per_positive", per_positive, 1, MAX_PER_POSITIVE)
    check_whole_number("seed", seed, 0)
    choice = _Choice(_shares(kinds), per_positive, seed, near_duplicates, num_workers)
    target = None if output is None else Path(output)
    user_rows = keep_rows(rows) if target is None else rows
    with ExitStack() as stack:
        source = stack.enter_context(open_rows(user_rows, settings))
        if target is not None:
            _check_target(target, source, lexicon, overwrite=overwrite)
            for path in _outputs(target):
                stack.enter_context(lock_file(path))
        words = lexicon if isinstance(lexicon, Mapping) else read_lexicon(lexicon)
        exchangeable = Lexicon(words)
        matches = read_matches(source, refuse_memory=target is not None and in_memory(user_rows))
        if target is not None:
            _check_kind(target, matches)
        images = _grouped(source, matches, choice)
        view = None if backbone is None else NegativeBackbone(backbone)
        made = _made(matches, images, choice, exchangeable, source.base, view)
        labelled = list(labelled_rows(matches, made.made))
        doubtful = labelled_doubtful(made.doubtful)
        if target is not None:
            return _result(
                source, matches, made, images, *_written(target, matches, labelled, doubtful)
            )
    result_rows = rows_in_memory(user_rows, source, matches, labelled)
    doubtful_rows = rows_in_memory(user_rows, source, matches, doubtful) if doubtful else None
    return _result(source, matches, made, images, result_rows, doubtful_rows)


def _shares(kinds: str | Mapping[str, float]) -> dict[str, float]:
    """Return the share of each kind; `random=0.5,hard` is read too. InputError."""
    pairs: list[tuple[str, Any]] = []
    if isinstance(kinds, str):
        named = (part.partition("=") for part in kinds.split(","))
        pairs += [(kind.strip(), share or "1") for kind, _, share in named]
    elif isinstance(kinds, Mapping):
        pairs += kinds.items()
    else:
        raise InputError(f"`kinds` is {kinds!r}; a share of each kind is needed, as hard=0.3")
    shares = {}
    for kind, share in pairs:
        try:
            shares[kind] = float(share)
        except (TypeError, ValueError) as error:
            raise InputError(f"`kinds`: '{kind}={share}' is not KIND=SHARE, as hard=0.3") from error
    return shares


def _check_target(
    target: Path,
    source: RowSource,
    lexicon: str | Path | Mapping[str, Sequence[str]] | None,
    *,
    overwrite: bool,
) -> None:
    """Refuse to replace an input, and anything that is not asked for."""
    check_table(target)
    inputs = rows_files(source.path)
    if isinstance(lexicon, (str, Path)):
        inputs.append(Path(lexicon))
    outputs = _outputs(target)
    check_outputs([(OPTION, path, None) for path in outputs], inputs)
    refuse_unasked(OPTION, outputs, overwrite=overwrite)


def _check_kind(target: Path, matches: Matches) -> None:
    """Refuse to replace a table of other columns."""
    kind = exact_table("a table of such matches and mismatches", lambda: matches.header)
    check_outputs([(OPTION, path, kind) for path in _outputs(target)])


def _outputs(target: Path) -> list[Path]:
    doubtful = doubtful_path(target)
    return [target] if doubtful is None else [target, doubtful]


def _grouped(source: RowSource, matches: Matches, choice: _Choice) -> list[int]:
    """Return a group's number for each match, and take out those whose image can't be read.

    InputError for fewer than two matches.
    """
    images = matches.pictures.groups(
        source.base, look=choice.near_duplicates, workers=choice.num_workers
    )
    good = [row not in images.broken for row in range(len(images.groups))]
    broken = [(matches.lines[row], reason) for row, reason in images.broken.items()]
    matches.unusable = sorted([*matches.unusable, *broken])
    matches.rows = list(compress(matches.rows, good))
    matches.lines = list(compress(matches.lines, good))
    matches.image_paths = list(compress(matches.image_paths, good))
    if len(matches.rows) < 2:
        where = ""
        if matches.unusable:
            line, reason = matches.unusable[0]
            where = f"; line {line}: {reason}"
        raise InputError(f"{source.name}: two or more matching rows are needed{where}")
    return list(compress(images.groups, good))


def _made(
    matches: Matches,
    images: Sequence[int],
    choice: _Choice,
    lexicon: Lexicon,
    base: str,
    view: NegativeBackbone | None,
) -> negatives.Negatives:
    texts = [row["text"] for row in matches.rows]
    evidence = None
    if view is not None:
        evidence = view.evidence(texts, matches.image_paths, base, images)
    return negatives.make_negatives(
        texts,
        images,
        shares=choice.shares,
        per_positive=choice.per_positive,
        seed=choice.seed,
        lexicon=lexicon,
        neighbours=None if view is None else view.neighbours,
        evidence=evidence,
    )


def _written(
    target: Path, matches: Matches, labelled: Sequence[Labelled], doubtful: Sequence[Labelled]
) -> tuple[Path, Path | None]:
    """Write the rows, and the doubtful ones next to them; return both files."""
    path = doubtful_path(target)
    with together() as names:
        write_rows(target, matches, labelled, names)
        if path is not None and doubtful:
            write_rows(path, matches, doubtful, names)
    if path is not None and not doubtful:
        remove_earlier(path)
    return target, path if doubtful else None


def _result(
    source: RowSource,
    matches: Matches,
    made: negatives.Negatives,
    images: Sequence[int],
    rows: Any,
    doubtful_rows: Any,
) -> NegativesResult:
    first_problem = None
    if matches.unusable:
        line, reason = matches.unusable[0]
        first_problem = f"{format_location(source.name, line)}: {reason}"
    auroc, words = _blind(matches, made, images)
    likelihoods = [negative.likelihood for negative in made.made]
    return NegativesResult(
        matches=len(matches.rows),
        mismatches=len(made.made),
        kinds=made.counts(),
        missing=len(made.missing),
        doubtful=len(made.doubtful),
        likely_true=sum(likelihoods) / max(1, len(likelihoods)),
        told=made.told,
        labelled_mismatches=matches.mismatches,
        unusable=len(matches.unusable),
        first_problem=first_problem,
        blind_auroc=auroc,
        blind_aurocs=_blind_by_kind(matches, made, images),
        telltales=words,
        rows=rows,
        doubtful_rows=doubtful_rows,
    )


def _blind(
    matches: Matches, made: negatives.Negatives, images: Sequence[int]
) -> tuple[float | None, list[Telltale]]:
    """Return how well the texts alone tell the labels, and by which words if that is too well."""
    texts = [row["text"] for row in matches.rows] + [negative.text for negative in made.made]
    labels = [1] * len(matches.rows) + [0] * len(made.made)
    if len(texts) < LEAST_ROWS or not made.made:
        return None, []
    groups = [*images, *(images[negative.row] for negative in made.made)]
    auroc = blind_text_auroc(texts, labels, groups)
    if auroc <= WARN_FROM:
        return auroc, []
    return auroc, telltales(texts, labels, count=TELLTALES)


def _blind_by_kind(
    matches: Matches, made: negatives.Negatives, images: Sequence[int]
) -> dict[str, float]:
    """Return how well the texts of each kind are told from their rows' own; kinds of too few rows
    are left out.
    """
    aurocs = {}
    for kind in made.counts():
        of_kind = [negative for negative in made.made if negative.kind == kind]
        auroc = blind_pair_auroc(
            [matches.rows[negative.row]["text"] for negative in of_kind],
            [negative.text for negative in of_kind],
            [images[negative.row] for negative in of_kind],
        )
        if auroc is not None:
            aurocs[kind] = auroc
    return aurocs
