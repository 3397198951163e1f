"""How fast models are on this machine, and how several compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Unpack

from mismatch.data.pairs import one_image_each, read_rows, rows_files
from mismatch.data.readers.memory import RowsLike
from mismatch.data.rows import Row
from mismatch.errors import CheckpointError, InputError
from mismatch.evaluation.speed import BenchmarkPlan, Contender, measure, turns
from mismatch.io.atomic import write_json
from mismatch.io.outputs import check_outputs, json_report
from mismatch.jobs.locking import lock_file
from mismatch.jobs.options import RowOptions, RowSettings, RowSource, open_rows
from mismatch.jobs.results import Result
from mismatch.jobs.value_checks import (
    check_numbers,
    check_paths,
    check_whole_number,
    checked,
)
from mismatch.progress import progress
from mismatch.reports.benchmark_lines import benchmark_lines
from mismatch.runtime.predictor import load

__all__ = ["BenchmarkResult", "benchmark"]

LARGEST_BATCH = 4096  # 2.5 GB of pixels at 224 a side
REPORT = json_report("a benchmark", ("machine", "models", "settings"), ("tables",))


@dataclass(frozen=True)
class BenchmarkResult(Result):
    """Figures of each model; each table has a row a case, and ratios to the first model's.

    `machine`: cpu, instructions, cpus, python.
    `models`: letter, model, engine.
    `settings`: batch_sizes, repeats, provider, threads, csv.
    `tables`: name, case, unit, rows: case, figures, ratios.
    """

    machine: dict[str, Any]
    models: list[dict[str, Any]]
    settings: dict[str, Any]
    tables: list[dict[str, Any]]

    def summary(self) -> list[str]:
        """Return it as lines of Markdown."""
        return benchmark_lines(self)


@checked
def benchmark(
    models: str | Path | Sequence[str | Path],
    rows: RowsLike | None = None,
    *,
    max_rows: int = 256,
    batch_sizes: Sequence[int] = (1, 4, 16, 64),
    repeats: int = 5,
    threads: int | None = None,
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto",
    json_file: str | Path | None = None,
    before_storing: Callable[[BenchmarkResult], object] | None = None,
    **options: Unpack[RowOptions],
) -> BenchmarkResult:
    """Measure models: each tower, one pair, a whole job where there are `rows`, and the start of a
    new process.

    `models`: folders or names; several take turns. `max_rows`: rows to score, from their start.
    `batch_sizes`: items a tower call, 1..4096 each. `repeats`: turns of each model, after one to
    warm up; medians count. `threads`: the towers' threads. `provider`: where they run. `json_file`:
    a file for the figures; `before_storing` is called with the result before it is written.

    Raises InputError for rows that can't be used, CheckpointError for what can't be opened or
    written.
    """
    settings = RowSettings.of(options)
    check_paths("models", models)
    names = [models] if isinstance(models, (str, Path)) else list(models)
    _check(names, rows, batch_sizes, repeats, settings)
    check_whole_number("max_rows", max_rows, 1)
    target = None if json_file is None else Path(json_file)
    with ExitStack() as stack:
        source = (
            None if rows is None else stack.enter_context(open_rows(rows, settings, ahead=False))
        )
        if target is not None:
            _check_target(target, source)
            stack.enter_context(lock_file(target))
        plan = BenchmarkPlan(
            batch_sizes=tuple(dict.fromkeys(batch_sizes)),
            repeats=repeats,
            provider=provider,
            threads=threads,
        )
        if source is not None:  # a wrong file is refused before a model is loaded
            plan = _with_rows(plan, source, max_rows)
        contenders = [Contender(str(name), load(name, provider, threads)) for name in names]
        with progress("benchmark", turns(len(contenders), plan), unit="turn") as advance:
            result = BenchmarkResult(**measure(contenders, plan, advance))
        if before_storing is not None:
            before_storing(result)
        if target is not None:
            write_json(target, result.to_dict())
    return result


def _check(
    models: list[str | Path],
    rows: RowsLike | None,
    batch_sizes: Sequence[int],
    repeats: int,
    settings: RowSettings,
) -> None:
    if not models:
        raise InputError("`models` is empty; give one or more")
    if settings.image_base_path and rows is None:
        raise InputError("`image_base_path` goes with `rows`")
    check_numbers("batch_sizes", batch_sizes, 1, LARGEST_BATCH)
    if not len(batch_sizes):
        raise InputError("`batch_sizes` is empty; give one or more")
    for size in batch_sizes:
        check_whole_number("batch_sizes", size, 1, LARGEST_BATCH)
    check_whole_number("repeats", repeats, 1)


def _check_target(target: Path, source: RowSource | None) -> None:
    """Refuse a wrong name: minutes of measuring are not to end in one."""
    inputs = [] if source is None else rows_files(source.path)
    check_outputs([("`json_file`", target, REPORT)], inputs)
    if target.is_dir():
        raise CheckpointError(f"`json_file` {target} can't be written: it is a folder")
    if not target.absolute().parent.is_dir():
        raise CheckpointError(f"`json_file` {target} can't be written: its folder does not exist")


def _with_rows(plan: BenchmarkPlan, source: RowSource, max_rows: int) -> BenchmarkPlan:
    """Let a whole job of these rows be measured too."""
    return replace(
        plan,
        rows=_first_rows(source, max_rows),
        csv=source.name,
        image_base_path=source.base,
    )


def _first_rows(source: RowSource, max_rows: int) -> tuple[Row, ...]:
    """Return the first rows; a row of several images is as many here."""
    rows: list[Row] = []
    stream = read_rows(source.path, require_label=False, columns=source.columns)
    for row in islice(stream, max_rows):
        rows += one_image_each(row, source.columns)
    if not rows:
        raise InputError(f"{source.name}: there are no rows under the header; nothing to measure")
    return tuple(rows)
