"""Pieces of pages: what comes from files is escaped, unless it is markup already."""

from __future__ import annotations

from mismatch.reports.markup import Markup, plot_cards, table, with_bounds


def test_cells_are_escaped_unless_they_are_markup() -> None:
    html = table(("<b>", "n"), [("a<b", "1"), (Markup("<i>x</i>"), "2")], numbers=(1,))
    assert "&lt;b&gt;" in html
    assert "<td>a&lt;b</td>" in html
    assert "<td><i>x</i></td>" in html
    assert html.count(' class="n"') == 3


def test_a_value_has_its_interval_beside_it() -> None:
    assert with_bounds("0.5 ", "0.4..0.6") == "0.5 <small>0.4..0.6</small>"
    assert isinstance(with_bounds("<", ""), Markup)
    assert with_bounds("<", "").startswith("&lt;")


def test_plots_stand_in_cards_under_their_titles() -> None:
    html = "".join(plot_cards({"a < b": "<svg></svg>"}))
    assert "<h3>a &lt; b</h3>" in html
    assert '<div class="plot"><svg></svg></div>' in html
