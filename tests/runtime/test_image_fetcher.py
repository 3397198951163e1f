"""mismatch.runtime.image_fetcher: images of URLs, each once, against a host that behaves badly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mismatch.errors import ImageError, InputError, MachineError
from mismatch.io.web_images import WebImage
from mismatch.runtime import image_fetcher
from mismatch.runtime.fetched_folder import FetchedFolder
from mismatch.runtime.image_fetcher import (
    TROUBLED,
    FetchLimits,
    ImageFetcher,
    fetching_images,
)
from mismatch.runtime.preprocess import open_image
from tests.support.web_host import LOOPBACK, WebHost, coloured, web_host

LIMITS = FetchLimits(per_host=4, seconds=5.0, max_bytes=10_000)
Make = Callable[..., ImageFetcher]


@pytest.fixture
def host() -> Iterator[WebHost]:
    with web_host() as made:
        yield made


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return what makes fetchers of one folder, whose pauses are short."""
    monkeypatch.setattr(image_fetcher, "PAUSES", (0.01, 0.02, 0.03))
    made: list[ImageFetcher] = []

    def fetcher(limits: FetchLimits = LIMITS, *, revalidate: bool = False) -> ImageFetcher:
        folder = FetchedFolder(tmp_path / "images", "`fetch_cache`")
        made.append(ImageFetcher(folder, networks=LOOPBACK, limits=limits, revalidate=revalidate))
        return made[-1]

    yield fetcher
    for one in made:
        one.close()


def test_an_image_is_fetched_once_however_many_ask(make: Make, host: WebHost) -> None:
    fetcher = make()
    url = host.url("slow/0.1/red.png")
    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(fetcher.read, [url] * 8))
    assert [data.startswith(coloured("red")) for data in answers] == [True]
    fetcher.close()
    assert make().read(url) in answers  # a second run
    assert sum(host.requests.values()) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_pass_is_tried_again(make: Make, host: WebHost, status: int) -> None:
    path = f"twice/{status}/red.png"
    assert make().read(host.url(path)).startswith(coloured("red"))
    assert host.requests[f"/{path}"] == 3


def test_a_host_that_asks_for_a_pause_has_it(make: Make, host: WebHost) -> None:
    fetcher = make()
    start = time.monotonic()
    assert fetcher.read(host.url("wait/1/red.png")).startswith(coloured("red"))
    assert time.monotonic() - start >= 1.0
    with pytest.raises(ImageError, match="the image's host answered 429"):
        fetcher.read(host.url("wait/3600/red.png"))
    assert host.requests["/wait/3600/red.png"] == 1


@pytest.mark.parametrize(
    ("path", "words", "requests"),
    [
        ("status/404/a.png", "host answered 404; correct the address, or drop the row", 1),
        ("status/403/a.png", "host answered 403", 1),
        ("status/500/a.png", "host answered 500", 4),
        ("short/a.png", "could not be fetched from its host; try again later", 4),
        ("huge", "more than 10,000 bytes; make it smaller", 1),
        ("endless", "more than 10,000 bytes; make it smaller", 1),
        ("to/itself", "leads on more than 3 times", 4),
        ("to/metadata", "nothing is fetched", 1),
        ("to/credentials", "nothing is fetched", 1),
        ("page", "is a page of HTML or XML, as a server sends in place of an image", 1),
        ("svg", "is an SVG drawing", 1),
        ("empty", "is empty", 1),
    ],
)
def test_what_fails_says_why_and_is_not_asked_for_again(
    make: Make, host: WebHost, path: str, words: str, requests: int
) -> None:
    fetcher = make()
    url = host.url(f"{path}?key=secret")
    for _ in range(2):
        with pytest.raises(ImageError, match=words) as caught:
            fetcher.read(url)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
    assert sum(host.requests.values()) == requests
    assert fetcher.counts.failed == 1
    assert not list(fetcher.folder.path.glob("images/*/*"))  # nothing of it is kept


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://169.254.169.254/latest", "lies in a network from which nothing is fetched"),
        ("http://10.0.0.7/a.png", "lies in a network from which nothing is fetched"),
        ("http://user:word@example.com/a.png", "holds a user's name; give one without"),
        ("http://", "is no URL of http or https"),
        ("https://[bad", "can't be understood"),
    ],
)
def test_addresses_that_are_refused(make: Make, url: str, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        make().read(url)


def test_a_host_is_asked_for_no_more_than_its_share_at_a_time(make: Make, host: WebHost) -> None:
    fetcher = make()
    urls = [host.url(f"slow/0.05/{number}.png") for number in range(20)]
    fetcher.ahead(urls)
    for url in urls:
        fetcher.read(url)
    assert host.most_at_once == LIMITS.per_host
    assert set(host.requests.values()) == {1}


def test_what_is_fetched_ahead_is_there_when_it_is_read(make: Make, host: WebHost) -> None:
    fetcher = make(FetchLimits(per_host=32, seconds=20, max_bytes=10_000))
    urls = [host.url(f"{number}.png") for number in range(300)]  # more than may wait
    fetcher.ahead(iter(["", *urls, host.url("status/404/a.png")]))
    for url in reversed(urls):
        fetcher.read(url)
    assert set(host.requests.values()) == {1}


def test_a_host_in_trouble_is_asked_once_an_image(make: Make, host: WebHost) -> None:
    fetcher = make()
    for number in range(TROUBLED + 3):
        with pytest.raises(ImageError):
            fetcher.read(host.url(f"status/503/{number}.png"))
    assert sum(host.requests.values()) == 4 * TROUBLED + 3


def test_revalidation_asks_once_with_the_etag(make: Make, host: WebHost) -> None:
    url = host.url("red.png")
    first = make().read(url)
    same = make(revalidate=True)
    assert same.read(url) == same.read(url) == first
    assert (host.requests["/red.png"], host.conditional["/red.png"]) == (2, 1)
    assert (same.counts.unchanged, same.counts.fetched) == (1, 0)
    host.versions["/red.png"] += 1
    assert make().read(url) == first  # as it was, unless asked otherwise
    changed = make(revalidate=True)
    assert changed.read(url) == coloured("red") + b"1"
    assert make().read(url) == coloured("red") + b"1"


def test_a_damaged_file_is_fetched_again(make: Make, host: WebHost) -> None:
    fetcher = make()
    image, data = fetcher.image(host.url("red.png"))
    for damage in (b"x" * len(data), None):
        path = fetcher.folder.path / image.name
        path.unlink() if damage is None else path.write_bytes(damage)
        assert fetcher.read(host.url("red.png")) == data
    assert host.requests["/red.png"] == 3


def test_closing_ends_those_who_wait(make: Make, host: WebHost) -> None:
    fetcher = make(FetchLimits(per_host=1, seconds=90, max_bytes=10_000))
    said: list[str] = []

    def wait(path: str) -> None:
        with pytest.raises((ImageError, MachineError)) as caught:
            fetcher.read(host.url(path))
        said.append(str(caught.value))

    threads = [threading.Thread(target=wait, args=(f"slow/60/{name}.png",)) for name in "ab"]
    for thread in threads:
        thread.start()
    while not host.requests:
        time.sleep(0.01)
    fetcher.close()
    for thread in threads:
        thread.join(30)
    assert len(said) == 2


def test_images_are_read_by_their_urls_within_the_block(tmp_path: Path, host: WebHost) -> None:
    with fetching_images(tmp_path / "kept", LOOPBACK):
        assert open_image(host.url("red.png")).getpixel((0, 0)) == (255, 0, 0)
        assert open_image(WebImage.of(host.url("chunked/blue.png"))).getpixel((0, 0)) == (0, 0, 255)
        with pytest.raises(ImageError, match="not an image in a format"):
            open_image(host.url("garbage"))
        with pytest.raises(ImageError, match="damaged or cut short"):
            open_image(host.url("long/a.png"))
    with pytest.raises(ImageError, match="`fetch_images` says so"):
        open_image(host.url("red.png"))


def test_what_is_no_network_is_refused() -> None:
    with (
        pytest.raises(InputError, match="'localhost' is no network"),
        fetching_images(None, ["localhost"]),
    ):
        pass
