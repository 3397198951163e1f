"""What the site takes from elsewhere: pages of commands, tables from the code, files and notebooks
of the repository. A hook of mkdocs.

A line `<!-- table: NAME -->` in a page becomes a table of TABLES. `<!-- include: FILE -->` becomes
a file of the repository without its title, `FILE#some-heading` one section of it. A link to a file
outside docs/ leads to the page that shows it, else to a copy.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_tables import COMMANDS, TABLES, openapi, verb_page
from mismatch import cli

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

__all__ = ["DOCS", "on_config", "on_files", "on_page_markdown", "pages"]

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
# files of the repository that a page shows
SHOWN = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "explanation/security.md",
    "benchmarks/README.md": "benchmarks.md",
}
MARK = re.compile(r"^<!-- (table|include): ([^\s#]+)(?:#(\S+))? -->$", re.MULTILINE)
# marks for the tests, and cog's
HIDDEN = re.compile(r"^<!-- (?:run\b|\[\[\[).*?-->\n?", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()[^()\s]+(?=\))")
FENCED = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


# --- hooks of mkdocs


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add a page for each verb to the navigation; notebooks stand there as pages."""
    config.nav = _completed(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here, and copies of linked files from outside docs/."""
    from mkdocs.structure.files import File

    for uri, text in _made_pages().items():
        files.append(File.generated(config, uri, content=text))
    for uri, path in _copies().items():
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    document = json.dumps(openapi(), indent=2)
    files.append(File.generated(config, "reference/openapi.json", content=document))
    return files


def on_page_markdown(markdown: str, page: Page, **_more: Any) -> str:
    """Fill in tables and files, and point links at pages."""
    uri = page.file.src_uri
    return _linked(_filled(markdown, uri), uri)


def pages() -> dict[str, str]:
    """Return the Markdown of every page by its name, with all that is filled in."""
    return {uri: _linked(_filled(text, uri), uri) for uri, text in _sources().items()}


def _completed(entry: Any) -> Any:
    if isinstance(entry, dict):
        return {title: _completed(child) for title, child in entry.items()}
    if isinstance(entry, str):
        return entry.replace(".ipynb", ".md")
    children = [_completed(child) for child in entry]
    if {"Overview": f"{COMMANDS}.md"} in children:
        children += [{verb: f"{COMMANDS}/{verb}.md"} for verb in cli.VERBS]
    return children


# --- pages


def _sources() -> dict[str, str]:
    """Return all pages as they are written, or made here."""
    written = {
        path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(DOCS.rglob("*.md"))
    }
    return written | _made_pages()


def _made_pages() -> dict[str, str]:
    made = {f"{COMMANDS}/{verb}.md": verb_page(verb) for verb in cli.VERBS}
    for path in sorted(DOCS.rglob("*.ipynb")):
        uri = path.relative_to(DOCS).with_suffix(".md").as_posix()
        made[uri] = _notebook_page(path)
    return made


def _filled(text: str, uri: str) -> str:
    """Return a page with its tables and files, without marks that readers don't need."""

    def fill(match: re.Match[str]) -> str:
        kind, name, section = match.groups()
        return TABLES[name]() if kind == "table" else _included(name, section, uri)

    return HIDDEN.sub("", MARK.sub(fill, text))


def _included(name: str, section: str | None, uri: str) -> str:
    """Return what stands in a file below a heading, with links as seen from the page."""
    text = (ROOT / name).read_text(encoding="utf-8")
    here = posixpath.dirname(f"docs/{uri}")

    def seen_from_here(link: str) -> str:
        return posixpath.relpath(posixpath.join(posixpath.dirname(name), link), here)

    return _with_links(_section(text, section), seen_from_here)


def _section(text: str, slug: str | None) -> str:
    """Return what stands below a heading, by default the first, up to the next of its level."""
    headings = list(HEADING.finditer(FENCED.sub(lambda code: "\0" * len(code[0]), text)))
    for number, heading in enumerate(headings):
        if slug in (None, re.sub(r"\W+", "-", heading[2].lower())):
            later = headings[number + 1 :]
            ends = [other.start() for other in later if len(other[1]) <= len(heading[1])]
            return text[heading.end() : ends[0] if ends else None].strip() + "\n"
    raise ValueError(f"there is no heading {slug}")


def _notebook_page(path: Path) -> str:
    """Return a notebook as Markdown: its cells, and what they printed."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    title, *rest = [part for cell in notebook["cells"] for part in _cell(cell)]
    download = f'<a href="../{path.name}" download>Download this page as a notebook.</a>'
    return "\n\n".join([title, download, *rest]) + "\n"


def _cell(cell: Mapping[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    outputs = [_output(output) for output in cell["outputs"]]
    return [f"```python\n{source}\n```", *filter(None, outputs)]


def _output(output: Mapping[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        picture = "".join(data["image/png"]).replace("\n", "")
        return f'<img alt="what the cell above shows" src="data:image/png;base64,{picture}">'
    text = "".join(output.get("text") or data.get("text/plain", "")).rstrip()
    return f"```text\n{text}\n```" if text else ""


# --- links


def _with_links(text: str, change: Callable[[str], str]) -> str:
    """Return the text with its relative links changed; code stays."""

    def changed(match: re.Match[str]) -> str:
        path, mark, anchor = match[0].partition("#")
        return match[0] if not path or ":" in path else f"{change(path)}{mark}{anchor}"

    parts = FENCED.split(text)
    return "".join(
        part if number % 2 else LINK.sub(changed, part) for number, part in enumerate(parts)
    )


def _linked(text: str, uri: str) -> str:
    """Return a page's text with links to files of the repository as links within the site."""
    folder = posixpath.dirname(uri)

    def linked(link: str) -> str:
        place = _place(link, uri)
        if place.startswith("docs/"):
            target = place.removeprefix("docs/").replace(".ipynb", ".md")
        elif (ROOT / place).is_file():
            target = SHOWN.get(place) or _copy_uri(place)
        else:
            return link  # mkdocs says so
        return posixpath.relpath(target, folder or ".")

    return _with_links(text, linked)


def _place(link: str, uri: str) -> str:
    """Return the path in the repository that a page's link leads to, a README for its folder."""
    place = posixpath.normpath(posixpath.join("docs", posixpath.dirname(uri), link))
    is_described = (ROOT / place / "README.md").is_file()
    return f"{place}/README.md" if is_described and place != "." else place


def _copies() -> dict[str, Path]:
    """Return the files outside docs/ to which pages link, by the names of their copies."""
    copies = {}

    def note(link: str, uri: str) -> str:
        place = _place(link, uri)
        path = ROOT / place
        if path.is_file() and path.is_relative_to(ROOT) and not path.is_relative_to(DOCS):
            copies[_copy_uri(place)] = path
        return link

    for uri, text in _sources().items():
        _with_links(_filled(text, uri), lambda link, uri=uri: note(link, uri))  # type: ignore[misc]
    return {uri: path for uri, path in copies.items() if uri.removeprefix("files/") not in SHOWN}


def _copy_uri(place: str) -> str:
    """Return the name of a copy on the site; Markdown is shown there as it is written."""
    return (
        f"files/{place}.txt" if place.endswith(".md") and place not in SHOWN else f"files/{place}"
    )
