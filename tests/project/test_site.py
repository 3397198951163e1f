"""The site: it builds without a warning, no link in it leads nowhere, its search finds what people
look for, and no page asks another host for anything.
"""

from __future__ import annotations

import json
import posixpath
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from code_tables import TABLES, openapi
from docstring_lists import as_lists
from generate import pages
from mismatch.serving.problems import TITLES
from tests.support.paths import ROOT

pytest.importorskip("mkdocs", reason='mkdocs is not installed; pip install "mismatch-clip[docs]"')


@dataclass
class Html(HTMLParser):
    """What a page links to, loads and can be linked at."""

    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        target = values.get("href") or values.get("src")
        if target is None or values.get("rel") == "canonical":
            return
        (self.links if tag == "a" else self.loaded).append(target)


@pytest.fixture(scope="module")
def site(module_folder: Path) -> Path:
    folder = module_folder / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def parsed(site: Path) -> dict[str, Html]:
    """Every page by its path, but the one for addresses that aren't there."""
    found = {}
    for path in site.rglob("*.html"):
        html = Html()
        html.feed(path.read_text(encoding="utf-8"))
        found[path.relative_to(site).as_posix()] = html
    del found["404.html"]
    return found


def test_every_page_of_the_sources_is_built(parsed: dict[str, Html]) -> None:
    assert len(parsed) > 50
    assert "reference/commands/train/index.html" in parsed
    assert "tutorials/from-python/index.html" in parsed


def test_no_link_leads_nowhere(site: Path, parsed: dict[str, Html]) -> None:
    broken = [
        f"{name}: {link}"
        for name, html in parsed.items()
        for link in [*html.links, *html.loaded]
        if not leads_somewhere(link, name, site, parsed)
    ]
    assert broken == []


def leads_somewhere(link: str, page: str, site: Path, parsed: dict[str, Html]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True  # elsewhere
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(parts.path)))
    if not parts.path:
        path = page
    elif (site / path).is_dir():
        path = posixpath.normpath(posixpath.join(path, "index.html"))
    if path in parsed and parts.fragment:
        return unquote(parts.fragment) in parsed[path].anchors
    return (site / path).is_file()


def test_no_page_loads_anything_from_another_host(parsed: dict[str, Html]) -> None:
    elsewhere = {link for html in parsed.values() for link in html.loaded if urlsplit(link).netloc}
    assert elsewhere == set()


@pytest.mark.parametrize("word", ["threshold", "int8", "resume", "webdataset", "no module named"])
def test_the_search_finds_what_there_is(site: Path, word: str) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = [entry for entry in index["docs"] if word in entry["text"].lower()]
    assert bool(found) == (word != "no module named")


def test_every_table_is_on_a_page_and_the_service_is_whole() -> None:
    marks = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    assert set(re.findall(r"^<!-- table: (\S+) -->$", marks, re.MULTILINE)) == set(TABLES)
    service = pages()["reference/service.md"]
    for path, operations in openapi()["paths"].items():
        for method in operations:
            assert f"| `{method.upper()} {path}` |" in service
    assert all(f"| {code} |" in pages()["reference/errors.md"] for code in TITLES)


def test_every_variable_of_the_environment_has_its_line() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "mismatch").rglob("*.py")]
    named = set(re.findall(r"\"(MISMATCH_[A-Z_]+|CLIP_FINE_[A-Z_]+)\"", "".join(sources)))
    page = pages()["reference/environment.md"]
    assert len(named) > 5
    assert [name for name in sorted(named) if f"| `{name}` |" not in page] == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "`a`: how many,\nof all.\n`b`: a folder.",
            "- `a`: how many,\n  of all.\n- `b`: a folder.",
        ),
        ("`a`: one; `b`: two. `c` is\nnone.", "- `a`: one\n- `b`: two. `c` is\n  none."),
        ("Options. `a`: one.\n`b`: two.", "Options.\n\n- `a`: one.\n- `b`: two."),
        ("a (int | None): one.\nb (str): two.", "- a (int | None): one.\n- b (str): two."),
        ("What it is.\n\nThe `a` of it: one.", "What it is.\n\nThe `a` of it: one."),
    ],
)
def test_fields_in_a_docstring_become_a_list(text: str, shown: str) -> None:
    assert as_lists(text) == shown
