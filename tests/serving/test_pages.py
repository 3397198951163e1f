"""The page's files over HTTP: which there are, their headers, and that nothing in them points
elsewhere. How it works: test_page_in_chromium.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mismatch.runtime.predictor import Predictor
from mismatch.serving.app import create_app
from mismatch.serving.configuration import Settings
from mismatch.serving.pages import FILES, HEADERS

FOLDER = Path(__file__).resolve().parents[2] / "mismatch" / "serving" / "page"
TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@pytest.fixture
def client(colour_engine: Any) -> Iterator[TestClient]:
    """Of a service that wants a token."""
    app = create_app(Settings("m", tokens=("a" * 16,)), {"default": Predictor(colour_engine())})
    with TestClient(app, raise_server_exceptions=False) as found:
        yield found


def test_the_page_needs_no_token_and_lets_itself_reach_no_other_host(client: TestClient) -> None:
    response = client.get("/")
    assert (response.status_code, response.headers["content-type"]) == (
        200,
        "text/html; charset=utf-8",
    )
    assert response.content == (FOLDER / "index.html").read_bytes()
    policy = dict(
        part.split(" ", 1) for part in response.headers["content-security-policy"].split("; ")
    )
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    for name, value in {
        "referrer-policy": "no-referrer",
        "x-frame-options": "DENY",
        "x-content-type-options": "nosniff",
        "cache-control": "no-cache",
    }.items():
        assert response.headers[name] == value


@pytest.mark.parametrize("name", FILES)
def test_each_part_has_its_type_the_same_headers_and_is_sent_once(
    client: TestClient, name: str
) -> None:
    first = client.get(f"/page/{name}")
    assert first.content == (FOLDER / name).read_bytes()
    assert first.headers["content-type"] == TYPES[name.rpartition(".")[2]]
    assert {key: first.headers[key] for key in HEADERS} == HEADERS
    again = client.get(f"/page/{name}", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(f"/page/{name}", headers={"if-none-match": '"another"'}).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "index.html",
        "nothing.js",
        "../pages.py",
        "..%2fpages.py",
        "%2e%2e/pages.py",
        "%2fetc%2fpasswd",
        "main.js%00",
        "",
    ],
)
def test_nothing_else_is_served(client: TestClient, name: str) -> None:
    response = client.get(f"/page/{name}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_it_is_no_part_of_the_described_interface(client: TestClient) -> None:
    document = client.get("/openapi.json", headers={"authorization": "Bearer " + "a" * 16}).json()
    assert not any(path == "/" or path.startswith("/page") for path in document["paths"])


def test_the_list_is_that_of_the_folder_and_whatever_a_file_names_is_in_it() -> None:
    assert sorted([*FILES, "index.html"]) == sorted(path.name for path in FOLDER.iterdir())
    named = set(re.findall(r'(?:src|href)="page/([^"]*)"', (FOLDER / "index.html").read_text()))
    assert {"main.js", "style.css", "icon.svg"} == named
    for path in FOLDER.glob("*.js"):
        named |= set(re.findall(r'from "\./([^"]*)"', path.read_text()))
    assert named == set(FILES)


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_no_file_has_an_address_markup_from_text_or_inline_code(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"(?:https?:)?//[\w.]+\.\w+", text) in ([], ["http://www.w3.org"])
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|localStorage|indexedDB|document\.cookie",
        text,
    )
    if path.suffix == ".html":
        assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?![^>]*\ssrc=)", text)
        identities = re.findall(r'\sid="([^"]*)"', text)
        assert len(identities) == len(set(identities))
        pointed = re.findall(
            r'\s(?:for|aria-labelledby|aria-describedby|aria-controls|list)="([^"]*)"', text
        )
        # the verdict's is made with a result
        assert set(" ".join(pointed).split()) <= {*identities, "verdict"}


def test_every_element_that_a_module_looks_for_is_there() -> None:
    identities = set(re.findall(r'\sid="([^"]*)"', (FOLDER / "index.html").read_text()))
    wanted = {
        name
        for path in FOLDER.glob("*.js")
        for name in re.findall(r'\bby\("([^"]*)"\)', path.read_text())
    }
    assert len(wanted) > 40
    assert wanted <= identities
