"""Templates: what they are given is text, whatever it says; style and script are no templates."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jinja2 import DictLoader, UndefinedError

from mismatch.reports.rendering import environment, render, write_page

TEMPLATES = Path(__file__).resolve().parents[2] / "mismatch" / "reports" / "templates"
FILES = sorted(path.name for path in TEMPLATES.iterdir())
HOSTILE = [
    "</script><script>alert(1)</script>",
    '" onerror="alert(1)',
    "' onerror='alert(1)",
    "{{ 7 * 7 }}{% include 'page.css' %}{# gone #}",
    "<!-- <style> &lt;b&gt; &",
    "\u202egnp.exe\u2066",
    "\x00\x1b[31m",
]


@pytest.fixture
def template(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes `given` the text of a template; with the pieces of all pages."""

    def make(text: str) -> None:
        pieces = (TEMPLATES / "pieces.html.j2").read_text(encoding="utf-8")
        loader = DictLoader({"given": text, "pieces.html.j2": pieces})
        monkeypatch.setattr(environment(), "loader", loader)
        environment().cache.clear()  # type: ignore[union-attr]

    yield make
    environment().cache.clear()  # type: ignore[union-attr]


class Parts(HTMLParser):
    """Elements with their attributes, and the text, of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_stays_a_text(template: Any, text: str) -> None:
    template('<p title="{{ text }}">{{ text }}</p>')
    page = Parts(render("given", text=text))
    assert page.elements == [("p", [("title", text)])]
    assert page.text == text


@pytest.mark.parametrize("text", HOSTILE)
def test_data_of_a_script_ends_where_the_script_ends(template: Any, text: str) -> None:
    template('<script type="application/json">{{ {"text": text} | tojson }}</script>')
    html = render("given", text=text)
    assert html.count("<") == 2
    assert "&" not in html


def test_what_is_put_together_by_a_piece_is_escaped_once(template: Any) -> None:
    template(
        '{% from "pieces.html.j2" import bounded, plots, table, thumbnail %}'
        '{% call table(("<b>", "n"), numbers=(1,)) %}<tr><td>{{ "a<b" }}</td></tr>{% endcall %}'
        '{{ bounded("<", "0.4..0.6") }}{{ plots({"a < b": "<svg></svg>"}) }}'
        '{{ thumbnail({"problem": "<i>", "url": ""}, "x") }}'
    )
    html = render("given")
    assert '<th>&lt;b&gt;</th><th class="n">n</th>' in html
    assert "<td>a&lt;b</td>" in html
    assert "&lt; <small>0.4..0.6</small>" in html
    assert '<h3>a &lt; b</h3><div class="plot"><svg></svg></div>' in html
    assert '<p class="small">&lt;i&gt;</p>' in html
    assert "&amp;" not in html


def test_a_name_that_is_not_given_is_an_error(template: Any, tmp_path: Path) -> None:
    template("<p>{{ gone }}</p>")
    with pytest.raises(UndefinedError, match="gone"):
        render("given")
    with pytest.raises(UndefinedError, match="gone"):
        write_page(tmp_path / "page.html", "given")
    assert list(tmp_path.iterdir()) == []


def test_an_iterator_is_taken_as_the_page_is_written(template: Any, tmp_path: Path) -> None:
    template("{% for number in numbers %}{{ number }}\n{% endfor %}")
    write_page(tmp_path / "page.txt", "given", numbers=iter(range(5000)))
    assert (tmp_path / "page.txt").read_text().split() == [str(number) for number in range(5000)]


def test_only_plots_are_put_in_as_they_are() -> None:
    texts = {name: (TEMPLATES / name).read_text(encoding="utf-8") for name in FILES}
    unescaped = [found for text in texts.values() for found in re.findall(r"(\w+) \| safe", text)]
    assert sorted(unescaped) == ["svg", "sweep_plot"]
    pages = [text for name, text in texts.items() if not name.endswith(".md.j2")]
    assert not any("autoescape" in text for text in pages)


@pytest.mark.parametrize("name", FILES)
def test_a_template_is_valid_and_style_and_script_stay_as_they_are(name: str) -> None:
    template = environment().get_template(name)
    if not name.endswith(".j2"):
        assert template.render() == (TEMPLATES / name).read_text(encoding="utf-8")
