"""mismatch.io.web: one request, bounded, over connections that last; what the service checks of it
stands in serving/test_fetching.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import ImageError
from mismatch.io.web import NoAnswerError, Remedies, WebClient, _seconds
from tests.support.web_host import LOOPBACK, WebHost, coloured, web_host


@pytest.fixture(scope="module")
def host() -> Iterator[WebHost]:
    with web_host() as made:
        yield made


@contextmanager
def client(**options: Any) -> Iterator[WebClient]:
    chosen = {"seconds": 5.0, "max_bytes": 10_000, "keep_connections": True} | options
    with closing(
        WebClient(None, LOOPBACK, remedies=Remedies("get it", smaller="shrink it"), **chosen)
    ) as made:
        yield made


def test_an_answer_has_what_a_cache_needs(host: WebHost) -> None:
    with client() as asking:
        answer = asking.get(host.url("red.png"))
        assert (answer.status, answer.etag) == (200, '"red-0"')
        assert answer.data.startswith(coloured("red"))
        again = asking.get(host.url("red.png"), headers={"if-none-match": answer.etag})
    assert (again.status, again.data) == (304, b"")


def test_requests_share_a_connection_and_stray_bytes_are_nobodys_answer(host: WebHost) -> None:
    before = host.connections
    with client() as asking:
        for path in ("red.png", "status/404/a.png", "green.png", "chunked/blue.png"):
            asking.get(host.url(path))
        assert host.connections == before + 1
        # what comes beyond the length that it names would be the next answer's beginning
        for _ in range(3):
            asking.get(host.url("long/a.png"))
            assert asking.get(host.url("green.png")).data.startswith(coloured("green"))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("huge", "more than 10,000 bytes; shrink it"),
        ("endless", "more than 10,000 bytes; shrink it"),
        ("to/itself", "leads on more than 3 times"),
        ("to/metadata", "leads on to one from which nothing is fetched; get it|lies in a network"),
        ("to/private", "lies in a network from which nothing is fetched"),
        ("to/file", "leads on to one from which nothing is fetched; get it"),
        ("to/credentials", "leads on to one from which nothing is fetched; get it"),
    ],
)
def test_what_is_refused_is_not_tried_again(host: WebHost, path: str, words: str) -> None:
    with client() as asking, pytest.raises(ImageError, match=words):
        asking.get(host.url(path))


@pytest.mark.parametrize("path", ["short/a.png", "slow/3/a.png"])
def test_what_may_pass_is_another_error(host: WebHost, path: str) -> None:
    with client(seconds=0.5) as asking, pytest.raises(NoAnswerError, match="could not be fetched"):
        asking.get(host.url(path))


@pytest.mark.parametrize("url", ["http://127.0.0.1/a", "http://[::1]/a", "http://10.1.2.3/a"])
def test_private_networks_are_refused_unless_allowed(url: str) -> None:
    shut = WebClient(None, (), seconds=1, max_bytes=9, remedies=Remedies("get it", smaller=""))
    with pytest.raises(ImageError, match="lies in a network from which nothing is fetched"):
        shut.get(url)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make keys")
def test_a_certificate_is_checked_by_the_hosts_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection goes to an address, and the certificate is the name's all the same."""
    for name, is_trusted in (("localhost", True), ("other.test", False)):
        pem = tmp_path / f"{name}.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
                *("-keyout", tmp_path / "key.pem", "-out", pem),
            ],
            check=True,
            capture_output=True,
        )
        certificate = pem.read_text()
        pem.write_text(certificate + (tmp_path / "key.pem").read_text())
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
        with web_host(pem) as secure:
            (tmp_path / "trusted.pem").write_text("")
            with client() as asking, pytest.raises(NoAnswerError):
                asking.get(secure.url("red.png"))  # nobody vouches for it
            (tmp_path / "trusted.pem").write_text(certificate)
            with client() as asking:
                if is_trusted:
                    for _ in range(2):
                        assert asking.get(secure.url("red.png")).status == 200
                else:
                    with pytest.raises(NoAnswerError):
                        asking.get(secure.url("red.png"))


def test_a_redirect_is_followed(host: WebHost) -> None:
    with client() as asking:
        assert asking.get(host.url("to/to/red.png")).data.startswith(coloured("red"))


def test_blanks_and_letters_of_a_path_are_escaped(host: WebHost) -> None:
    with client() as asking:
        assert asking.get(host.url("a b/bleu é.png?c= d")).status == 200
    assert host.requests["/a%20b/bleu%20%C3%A9.png?c=%20d"] == 1


def test_a_client_that_is_closed_cuts_its_requests(host: WebHost) -> None:
    with client() as asking:
        asking.close()
        with pytest.raises(NoAnswerError):
            asking.get(host.url("red.png"))


def test_how_long_a_host_asks_to_wait() -> None:
    assert (_seconds("7"), _seconds(""), _seconds("soon")) == (7.0, None, None)
    later = _seconds(formatdate(time.time() + 100, usegmt=True))
    assert later is not None
    assert 90 < later <= 100
