"""A labelled set from matching pairs alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from itertools import compress
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from mismatch.data import negatives
from mismatch.data.lexicon import Lexicon
from mismatch.data.pairs import format_location, read_header, read_rows, rows_files
from mismatch.data.readers.memory import RowsLike
from mismatch.data.rows import Row
from mismatch.data.unimodal_baselines import LEAST_ROWS, Telltale, blind_text_auroc, telltales
from mismatch.errors import InputError
from mismatch.io.outputs import check_outputs
from mismatch.io.text import printable
from mismatch.jobs.lexicon_file import read_lexicon
from mismatch.jobs.locking import lock_file
from mismatch.jobs.memory_rows import check_image_is_file, in_memory, keep_rows, pick_rows
from mismatch.jobs.options import RowOptions, RowSettings, RowSource, open_rows
from mismatch.jobs.pictures import Pictures
from mismatch.jobs.results import Result, as_json
from mismatch.jobs.row_tables import check_table, row_table
from mismatch.jobs.scored_windows import free_name
from mismatch.jobs.table_kinds import exact_table, refuse_unasked
from mismatch.jobs.value_checks import check_whole_number, checked
from mismatch.reports.negatives_lines import WARN_FROM, negatives_lines
from mismatch.runtime.predictor import Predictor, load

__all__ = ["NegativesResult", "make_negatives"]

TELLTALES = 3  # words that are kept
KINDS = "random=0.5,hard=0.3,attribute=0.2"
MAX_PER_POSITIVE = 20
ADDED = ("label", "kind")
OWN_KINDS = {"", "match", "random", "hard", "attribute"}
OPTION = "`output`"


@dataclass(frozen=True)
class NegativesResult(Result):
    """Matches with the mismatches that were made of them.

    `matches`: rows that are matches.
    `mismatches`: rows that were made.
    `kinds`: how many mismatches are "random", "hard" and "attribute".
    `missing`: mismatches that could not be made: every text may fit the image too.
    `labelled_mismatches`: rows labelled 0, which are left out.
    `unusable`: rows that can't be used, which are left out.
    `first_problem`: why the first of these can't be used, and its place; None where there are none.
    `blind_auroc`: AUROC with which the texts alone tell the labels, 0.5 is best; None of too few
        rows.
    `telltales`: words that give labels away most; empty where the AUROC is low.
    `rows`: the file that was written; without `output` the rows, with columns for the label and
        `kind`: a table of pandas where `rows` was one, else a list of mappings.
    """

    matches: int
    mismatches: int
    kinds: dict[str, int]
    missing: int
    labelled_mismatches: int
    unusable: int
    first_problem: str | None
    blind_auroc: float | None
    telltales: list[Telltale]
    rows: Any = field(repr=False)

    def summary(self) -> list[str]:
        """Return it for people, a line each."""
        return list(map(printable, negatives_lines(self)))

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, without rows, with plain JSON types only."""
        names = [item.name for item in fields(self) if item.name not in ("rows", "telltales")]
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


@dataclass
class _Matches:
    """The rows that match, and those that can't be used."""

    header: list[str]
    rows: list[dict[str, str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)  # each row's, in the file
    pictures: Pictures = field(default_factory=Pictures)
    mismatches: int = 0  # rows labelled 0, which are left out
    # line and why, of rows that can't be used
    unusable: list[tuple[int, str]] = field(default_factory=list)
    own_kind: str | None = None  # what the user's own column `kind` is called, if there is one

    def keep_own_kind(self) -> None:
        """Rename a column `kind` that is not of an earlier result."""
        if not {row.get("kind", "") for row in self.rows} <= OWN_KINDS:
            self.own_kind = free_name("kind", self.header)
            self.header.append(self.own_kind)


@dataclass(frozen=True)
class _Labelled:
    """A row of the result: a match, or a mismatch that was made of it."""

    match: int  # its place among the matches
    text: str
    kind: str  # "match", or how the mismatch was made

    @property
    def label(self) -> int:
        """Return whether the text fits, 0 or 1."""
        return int(self.kind == "match")


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

    No mismatch has a text that fits the image too. Texts are exchanged among rows, so that each is
    a mismatch as often as a match where possible, and the labels can't be told from the texts
    alone. Split first, then make mismatches in each part.

    `output`: .csv, .tsv, .jsonl or .parquet for matches and mismatches with a column `kind`; None:
    the result holds the rows. `overwrite`: replace one that was made earlier from rows with the
    same columns. `kinds`: shares of mismatches, random: another row's text; hard: one much like the
    own; attribute: the own with a colour, material, count, … exchanged. `per_positive`: mismatches
    for each match, 1..20. `lexicon`: classes of words of your own, or a YAML file of them.
    `backbone`: take its embeddings of the texts for hard mismatches; None: common words. `seed`:
    another one makes other mismatches. `near_duplicates`: look at the images for them.
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
            stack.enter_context(lock_file(target))
        words = lexicon if isinstance(lexicon, Mapping) else read_lexicon(lexicon)
        exchangeable = Lexicon(words)
        matches = _read(source, refuse_memory=target is not None and in_memory(user_rows))
        if target is not None:
            _check_kind(target, matches)
        images = _grouped(source, matches, choice)
        neighbours = None if backbone is None else _embedded(backbone)
        made = _made(matches, images, choice, exchangeable, neighbours)
        labelled = list(_labelled(matches, made))
        if target is not None:
            _write(target, matches, labelled)
    result_rows = _in_memory(user_rows, source, matches, labelled) if target is None else target
    return _result(source, matches, made, images, result_rows)


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
    check_outputs([(OPTION, target, None)], inputs)
    refuse_unasked(OPTION, [target], overwrite=overwrite)


def _check_kind(target: Path, matches: _Matches) -> None:
    """Refuse to replace a table of other columns."""
    kind = exact_table("a table of such matches and mismatches", lambda: matches.header)
    check_outputs([(OPTION, target, kind)])


def _read(source: RowSource, *, refuse_memory: bool) -> _Matches:
    header = read_header(source.path, require_label=False, columns=source.columns)
    matches = _Matches([*header, *(name for name in ADDED if name not in header)])
    with_labels = "label" in header
    for row in read_rows(source.path, require_label=with_labels, columns=source.columns):
        if row.problem:
            matches.unusable.append((row.line, row.problem))
        elif row.label == 0:
            matches.mismatches += 1
        else:
            _add(matches, row, source, refuse_memory=refuse_memory)
    # later objects of JSON lines may have other keys
    keys = dict.fromkeys(name for row in matches.rows for name in row)
    matches.header += [name for name in keys if name not in matches.header]
    matches.keep_own_kind()
    return matches


def _add(matches: _Matches, row: Row, source: RowSource, *, refuse_memory: bool) -> None:
    images = source.columns.images(row.image_path)
    if refuse_memory:
        check_image_is_file(source, images, row, OPTION)
    matches.rows.append(row.columns)
    matches.lines.append(row.line)
    matches.pictures.add(images)


def _grouped(source: RowSource, matches: _Matches, choice: _Choice) -> list[int]:
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
    if len(matches.rows) < 2:
        where = ""
        if matches.unusable:
            line, reason = matches.unusable[0]
            where = f"; line {line}: {reason}"
        raise InputError(f"{source.name}: two or more matching rows are needed{where}")
    return list(compress(images.groups, good))


def _made(
    matches: _Matches,
    images: Sequence[int],
    choice: _Choice,
    lexicon: Lexicon,
    neighbours: negatives.Neighbours | None,
) -> negatives.Negatives:
    return negatives.make_negatives(
        [row["text"] for row in matches.rows],
        images,
        shares=choice.shares,
        per_positive=choice.per_positive,
        seed=choice.seed,
        lexicon=lexicon,
        neighbours=neighbours,
    )


def _embedded(backbone: str | Predictor) -> negatives.Neighbours:
    """Return neighbours by a backbone's embeddings of the texts."""
    if isinstance(backbone, Predictor):
        predictor = backbone
    else:
        predictor = load(backbone if ":" in backbone else f"{backbone}:", "auto")

    def neighbours(texts: Sequence[str], count: int) -> Any:
        rows = np.asarray(predictor.encode_texts(list(texts)), np.float32)  # (N, text_dim)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9
        blocks = (rows[start : start + 1000] @ rows.T for start in range(0, len(rows), 1000))
        return negatives.nearest(blocks, count)

    return neighbours


def _labelled(matches: _Matches, made: negatives.Negatives) -> Iterator[_Labelled]:
    """Yield each match, and behind it its mismatches."""
    of_row: dict[int, list[negatives.Made]] = {}
    for negative in made.made:
        of_row.setdefault(negative.row, []).append(negative)
    for number, row in enumerate(matches.rows):
        yield _Labelled(number, row["text"], "match")
        for negative in of_row.get(number, ()):
            yield _Labelled(number, negative.text, negative.kind)


def _write(output: Path, matches: _Matches, labelled: Sequence[_Labelled]) -> None:
    with row_table(output, matches.header) as table:
        for row in labelled:
            values = _values(matches, row)
            table.writerow([values.get(name, "") for name in matches.header])


def _values(matches: _Matches, row: _Labelled) -> dict[str, Any]:
    values = matches.rows[row.match]
    own = {} if matches.own_kind is None else {matches.own_kind: values.get("kind", "")}
    return {**values, "text": row.text, "label": row.label, "kind": row.kind, **own}


def _in_memory(
    user_rows: RowsLike, source: RowSource, matches: _Matches, labelled: Sequence[_Labelled]
) -> Any:
    if not in_memory(user_rows):
        return [_values(matches, row) for row in labelled]
    added: dict[str, Sequence[Any]] = {
        source.columns.text: [row.text for row in labelled],
        source.columns.label: [row.label for row in labelled],
        "kind": [row.kind for row in labelled],
    }
    if matches.own_kind is not None:
        added[matches.own_kind] = [matches.rows[row.match].get("kind", "") for row in labelled]
    # each row is a line of the temporary file
    rows = pick_rows(user_rows, [matches.lines[row.match] - 1 for row in labelled], added)
    # the index of a pandas table would have each match's name again for its mismatches
    return rows.reset_index(drop=True) if hasattr(rows, "reset_index") else rows


def _result(
    source: RowSource,
    matches: _Matches,
    made: negatives.Negatives,
    images: Sequence[int],
    rows: Any,
) -> NegativesResult:
    first_problem = None
    if matches.unusable:
        line, reason = matches.unusable[0]
        first_problem = f"{format_location(source.name, line)}: {reason}"
    auroc, words = _blind(matches, made, images)
    return NegativesResult(
        matches=len(matches.rows),
        mismatches=len(made.made),
        kinds=made.counts(),
        missing=len(made.missing),
        labelled_mismatches=matches.mismatches,
        unusable=len(matches.unusable),
        first_problem=first_problem,
        blind_auroc=auroc,
        telltales=words,
        rows=rows,
    )


def _blind(
    matches: _Matches, made: negatives.Negatives, images: Sequence[int]
) -> tuple[float | None, list[Telltale]]:
    """Return how well the texts alone tell the labels, and by which words if that is too well."""
    texts = [row["text"] for row in matches.rows] + [negative.text for negative in made.made]
    labels = [1] * len(matches.rows) + [0] * len(made.made)
    if len(texts) < LEAST_ROWS:
        return None, []
    groups = [*images, *(images[negative.row] for negative in made.made)]
    auroc = blind_text_auroc(texts, labels, groups)
    if auroc <= WARN_FROM:
        return auroc, []
    return auroc, telltales(texts, labels, count=TELLTALES)
