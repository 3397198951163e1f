"""Pieces of HTML that pages share: tables, cards of plots, and text that is markup already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

__all__ = ["Markup", "plot_cards", "table", "with_bounds"]


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def with_bounds(value: str, interval: str) -> Markup:
    """Return a value with its interval in small letters."""
    return Markup(f"{escape(value.strip())} <small>{escape(interval)}</small>")


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Sequence[int] = (),
    plain: bool = True,
) -> str:
    """Make a table. `numbers`: columns that are aligned to the right; `plain`: cells are text, to
    be escaped.
    """
    mark = [' class="n"' if at in numbers else "" for at in range(len(head))]
    top = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(mark, head, strict=True))
    cells = (
        "".join(
            f"<td{kind}>{_cell(cell, plain)}</td>" for kind, cell in zip(mark, row, strict=True)
        )
        for row in rows
    )
    body = "".join(f"<tr>{row}</tr>\n" for row in cells)
    return (
        "<div"
        f' class="scroll"><table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table></div>\n'
    )


def _cell(text: str, plain: bool) -> str:
    return escape(text) if plain and not isinstance(text, Markup) else text


def plot_cards(plots: Mapping[str, str]) -> Iterator[str]:
    """Yield a card for each plot, title → SVG."""
    yield '<div class="plots">\n'
    for title, plot in plots.items():
        yield f'<div class="card"><h3>{escape(title)}</h3><div class="plot">{plot}</div></div>\n'
    yield "</div>\n"
