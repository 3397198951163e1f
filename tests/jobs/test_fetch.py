"""mismatch.fetch and `mismatch fetch`: images of rows into a folder, and rows that name them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import mismatch
from mismatch.cli.fetch import command
from mismatch.errors import CheckpointError, InputError
from mismatch.runtime import image_fetcher
from tests.support import commands
from tests.support.rows import read_rows, write_rows
from tests.support.web_host import LOOPBACK, WebHost, coloured, web_host

run = partial(commands.run, "fetch")
fetch = partial(mismatch.fetch, fetch_networks=LOOPBACK)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebHost]:
    monkeypatch.setattr(image_fetcher, "PAUSES", (0.01, 0.02))
    with web_host() as made:
        yield made


@pytest.fixture
def rows(colour_images: Path, host: WebHost) -> Path:
    """Rows of URLs, one of them twice, of a file, and of what fails in several ways."""
    images = [
        host.url("red.png?key=secret"),
        host.url("blue.png"),
        host.url("red.png?key=secret"),
        host.url("status/404/a.png"),
        "green.png",
        host.url("page"),
        "gone.png",
        host.url("twice/503/white.png"),
    ]
    table = [(image, f"text {number}", number % 2) for number, image in enumerate(images)]
    return write_rows(colour_images / "shop.csv", [("image_path", "text", "stock"), *table])


def test_rows_name_images_of_the_folder_and_failures_their_reason(
    rows: Path, host: WebHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(rows.parent)
    result = fetch(rows, tmp_path / "out")
    assert isinstance(result, mismatch.FetchResult)
    assert (result.rows, result.ready, result.failed, result.fetched) == (8, 5, 3, 3)
    ready = read_rows(tmp_path / "out" / "shop.csv")
    assert [row["text"] for row in ready] == ["text 0", "text 1", "text 2", "text 4", "text 7"]
    assert ready[0] == {
        "image_path": ready[2]["image_path"],
        "text": "text 0",
        "stock": "0",
        "image_url": host.url("red.png?key=secret"),
    }
    found = [(tmp_path / "out" / row["image_path"]).read_bytes() for row in ready]
    for data, colour in zip(found[:3], ("red", "blue", "red"), strict=True):
        assert data.startswith(coloured(colour))
    assert found[3] == Path("green.png").read_bytes()
    failed = read_rows(tmp_path / "out" / "shop.failed.csv")
    assert [(row["line"], row["image_path"]) for row in failed] == [
        ("5", host.url("status/404/a.png")),
        ("7", host.url("page")),
        ("8", "gone.png"),
    ]
    for row, words in zip(failed, ("answered 404", "a page of HTML", "not found"), strict=True):
        assert words in row["reason"]
    assert host.requests["/red.png?key=secret"] == 1
    assert result.summary() == [
        f"5 rows ready → {tmp_path / 'out' / 'shop.csv'} (3 images fetched now)",
        f"3 rows failed → {tmp_path / 'out' / 'shop.failed.csv'}, with the reason",
    ]


def test_a_second_call_fetches_what_is_missing_alone(
    rows: Path, host: WebHost, tmp_path: Path
) -> None:
    options: Any = {"image_base_path": rows.parent}
    fetch(rows, tmp_path / "out", **options)
    before = host.requests.copy()
    first = (tmp_path / "out" / "shop.csv").read_bytes()
    result = fetch(rows, tmp_path / "out", **options)
    assert (result.fetched, result.ready) == (0, 5)
    assert (tmp_path / "out" / "shop.csv").read_bytes() == first
    assert (host.requests - before).keys() == {"/status/404/a.png", "/page"}
    host.versions["/blue.png"] += 1
    again = fetch(rows, tmp_path / "out", revalidate=True, **options)
    assert (again.fetched, again.unchanged) == (1, 2)


def test_a_call_that_is_cut_short_goes_on(
    rows: Path, host: WebHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CutShortError(Exception):
        """As a kill would."""

    def cut(*_: object) -> None:
        raise CutShortError

    with monkeypatch.context() as patch:
        patch.setattr("mismatch.io.atomic.take_name", cut)
        with pytest.raises(CutShortError):
            fetch(rows, tmp_path / "out", image_base_path=rows.parent)
    assert not list((tmp_path / "out").glob("*.csv"))
    fetch(rows, tmp_path / "out", image_base_path=rows.parent)
    assert host.requests["/blue.png"] == 1


def test_failures_that_pass_leave_no_table(host: WebHost, tmp_path: Path) -> None:
    rows = [{"image_path": host.url(name), "text": "a"} for name in ("red.png", "status/404/b")]
    assert fetch(rows, tmp_path / "out").failed_path == str(tmp_path / "out" / "rows.failed.csv")
    assert fetch(rows[:1], tmp_path / "out").failed_path is None
    assert not (tmp_path / "out" / "rows.failed.csv").exists()


def test_several_images_a_row(host: WebHost, tmp_path: Path) -> None:
    both = f"{host.url('red.png')};{host.url('blue.png')}"
    one = f"{host.url('red.png')};{host.url('status/410/a.png')}"
    rows = [{"image_path": both, "text": "a"}, {"image_path": one, "text": "b"}]
    result = fetch(rows, tmp_path / "out", multi_image="best")
    assert (result.ready, result.failed) == (1, 1)
    [row] = read_rows(tmp_path / "out" / "rows.csv")
    assert len(row["image_path"].split(";")) == 2
    assert row["image_url"] == both


def test_a_folder_of_other_things_and_rows_without_an_image(host: WebHost, tmp_path: Path) -> None:
    rows = [{"image_path": host.url("status/404/a.png"), "text": "a"}]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="holds other things"):
        fetch(rows, tmp_path / "mine")
    with pytest.raises(InputError, match=r"not one of its 1 rows .*rows\.failed\.csv says why"):
        fetch(rows, tmp_path / "out")
    assert "404" in read_rows(tmp_path / "out" / "rows.failed.csv")[0]["reason"]


def test_private_networks_are_refused_unless_allowed(host: WebHost, tmp_path: Path) -> None:
    rows = [{"image_path": host.url("red.png"), "text": "a"}]
    with pytest.raises(InputError, match="not one of its 1 rows"):
        mismatch.fetch(rows, tmp_path / "out")
    assert "network" in read_rows(tmp_path / "out" / "rows.failed.csv")[0]["reason"]
    assert not host.requests


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seconds": 0}, "`seconds`"),
        ({"max_bytes": 0}, "`max_bytes`"),
        ({"per_host": 65}, "`per_host`"),
        ({"fetch_networks": ["here"]}, "`fetch_networks`"),
        ({"fetch_networks": "10.0.0.0/8"}, "`fetch_networks`"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        mismatch.fetch([], tmp_path / "out", **options)


def test_the_command(rows: Path, host: WebHost, tmp_path: Path) -> None:
    networks = [part for network in LOOPBACK for part in ("--fetch-network", network)]
    args = [rows, "--output", tmp_path / "out", "--image-base-path", rows.parent, *networks]
    result = run(*args)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("5 rows ready → ")
    assert json.loads(run(*args, "--json").stdout)["ready"] == 5
    assert host.requests["/blue.png"] == 1


def test_the_commands_options_are_those_of_the_function() -> None:
    parameters = inspect.signature(mismatch.fetch).parameters
    options = {param.name for param in command.params} - {"as_json", "debug"}
    assert options == set(parameters)
