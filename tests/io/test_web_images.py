"""mismatch.io.web_images: an image by its URL, read only while somebody fetches."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path

import pytest

from mismatch.data.columns import Columns, file_finder, locate_image, resolve_image
from mismatch.errors import ImageError, InputError
from mismatch.io.remote import Remote
from mismatch.io.web_images import WebImage, fetch_ahead, fetched_by, is_fetching, shown_url
from mismatch.runtime.preprocess import open_image
from tests.support.web_host import coloured

URL = "https://shop.example/a/red.png?signature=secret"


class Shelf:
    """Has the bytes of all URLs."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def read(self, url: str) -> bytes:
        self.asked.append(url)
        return coloured("red")

    def ahead(self, urls: Iterable[str]) -> None:
        self.asked += urls


def test_it_is_read_while_somebody_fetches_and_never_else() -> None:
    shelf = Shelf()
    for source in (URL, WebImage.of(URL)):
        with pytest.raises(ImageError, match="`fetch_images` says so") as caught:
            open_image(source)
        assert "secret" not in str(caught.value)
        with fetched_by(shelf):
            assert is_fetching()
            assert open_image(source).getpixel((0, 0)) == (255, 0, 0)
        assert not is_fetching()
    assert shelf.asked == [URL, URL]


def test_one_that_ends_leaves_the_others() -> None:
    """Two jobs on two threads end in any order."""
    first = Shelf()
    second = Shelf()
    one = fetched_by(first)
    other = fetched_by(second)
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    fetch_ahead([URL])
    other.__exit__(None, None, None)
    fetch_ahead([URL])
    assert (first.asked, second.asked) == ([], [URL])


def test_where_a_rows_image_lies() -> None:
    for base in (Path("data"), Remote.of("s3://shop/images")):
        with pytest.raises(InputError, match="`fetch_images` says so"):
            locate_image(base, URL)
        with fetched_by(Shelf()):
            assert locate_image(base, URL) == WebImage.of(URL)
    assert resolve_image("data", URL) == WebImage.of(URL)
    assert file_finder("data")(URL) == URL
    with fetched_by(Shelf()):
        assert Columns(inside="data").path_problem("https://shop.example/../../a.png") is None
        assert Columns(inside="data").path_problem("../a.png") is not None


def test_its_text_is_the_url_and_a_message_leaves_the_query_out() -> None:
    image = WebImage.of(URL)
    assert str(image) == URL
    assert pickle.loads(pickle.dumps(image)) == image  # noqa: S301 - its own bytes
    assert shown_url(URL) == "https://shop.example/a/red.png?…"
    assert len(shown_url("https://" + "a" * 5000)) == 201
