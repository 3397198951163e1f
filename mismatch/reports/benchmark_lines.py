"""Figures of a benchmark, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mismatch.jobs.benchmark import BenchmarkResult

__all__ = ["benchmark_lines"]


def benchmark_lines(result: BenchmarkResult) -> list[str]:
    """Return the figures as lines of Markdown."""
    machine = result.machine
    parts = [
        machine["cpu"],
        " ".join(machine["instructions"]),
        f"{machine['cpus']} CPUs available",
        f"Python {machine['python']}",
    ]
    lines = [f"- machine: {', '.join(part for part in parts if part)}"]
    lines += [
        f"- {model['letter']}: {model['model']};"
        f" {', '.join(f'{key} {value}' for key, value in model['engine'].items())}"
        for model in result.models
    ]
    letters = [model["letter"] for model in result.models]
    for table in result.tables:
        lines += ["", table["name"], "", *_table(table, letters)]
    return lines


def _table(table: dict[str, Any], letters: list[str]) -> Iterator[str]:
    first, *others = letters
    unit = f", {table['unit']}" if table["unit"] else ""
    header = [
        table["case"],
        *(f"{letter}{unit}" for letter in letters),
        *(f"{letter} / {first}" for letter in others),
    ]
    yield _line(header)
    yield "|" + "---|" * len(header)
    for row in table["rows"]:
        yield _line(
            [
                row["case"],
                *map(_number, row["figures"]),
                *("–" if ratio is None else f"{ratio:.2f}" for ratio in row["ratios"][1:]),
            ]
        )


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    """Return three digits, or all before the point."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
