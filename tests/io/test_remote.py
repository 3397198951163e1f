"""mismatch.io.remote: objects by URL, what a row may name of them, what is said where a store fails.
With moto and s3fs, over S3's own protocol too.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import CheckpointError, InputError, MissingExtraError
from mismatch.io.remote import READ, Remote, is_url, located, open_located

BASE = Remote.of("s3://shop/images")


@pytest.mark.parametrize(
    ("url", "store", "key"),
    [
        ("s3://shop/a/b.jpg", "s3://shop", "a/b.jpg"),
        ("S3A://shop/a/", "s3://shop", "a"),
        ("s3://shop", "s3://shop", ""),
        ("gcs://shop/a b#1?.jpg", "gs://shop", "a b#1?.jpg"),
        (
            "abfss://box@account.dfs.core.windows.net/a",
            "abfs://box@account.dfs.core.windows.net",
            "a",
        ),
    ],
)
def test_a_url_is_a_store_and_a_key(url: str, store: str, key: str) -> None:
    place = Remote.of(url)
    assert (place.store, place.key) == (store, key)
    assert str(place) == f"{store}/{key}".rstrip("/")
    assert located(url) == place


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "https://shop.example/a.jpg?X-Amz-Signature=secret",
            "https:// is no store that mismatch reads (s3://, gs://, abfs://)",
        ),
        ("simplecache::s3://shop/a", "names no object|is no store"),
        ("s3://key:secret@shop/a", "holds a password"),
        ("s3://shop/a?X-Amz-Credential=secret", "holds a signature"),
        ("abfs://box@account/a?sv=1&sig=secret", "holds a signature"),
        ("s3:///a", "names no object"),
        ("s3://arn:aws:s3:us-west-9:1:accesspoint/x/a", "names no object"),
        ("s3://a b/c", "names no object"),
        ("s3://shop/a/../b", "names no object"),
        ("s3://shop/./b", "names no object"),
    ],
)
def test_a_url_that_can_not_be_used_is_refused_without_its_secrets(url: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        Remote.of(url)
    assert any(words in str(caught.value) for words in said.split("|")), caught.value
    assert "secret" not in str(caught.value)


def test_what_an_operator_gives_is_a_path_unless_it_is_a_url(tmp_path: Path) -> None:
    assert located("a/b.csv") == Path("a/b.csv")
    assert located(tmp_path) == tmp_path
    assert located(f"file://{tmp_path}") == tmp_path
    assert located(BASE) is BASE
    assert [is_url(text) for text in ("s3://a", "a://b", "C://a", "a/b://c", "s3:/a", "://a")] == [
        True,
        False,
        False,
        False,
        False,
        False,
    ]


def test_parts_of_a_name() -> None:
    place = BASE / "rows.parquet"
    assert (str(place), place.name, place.suffix) == (
        "s3://shop/images/rows.parquet",
        "rows.parquet",
        ".parquet",
    )
    assert str(Remote.of("s3://shop") / "rows") == "s3://shop/rows"


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("a.jpg", "images/a.jpg"),
        ("./deep//a.jpg", "images/deep/a.jpg"),
        ("deep/../a.jpg", "images/a.jpg"),
        ("..a.jpg", "images/..a.jpg"),
        ("a%2F..%2Fb.jpg", "images/a%2F..%2Fb.jpg"),
        ("file:/etc/passwd", "images/file:/etc/passwd"),
        ("simplecache::file:///etc/passwd", "images/simplecache::file:/etc/passwd"),
        ("s3://shop/images/a//b.jpg", "images/a//b.jpg"),
    ],
)
def test_a_row_names_what_lies_below(path: str, key: str) -> None:
    assert BASE.below(path) == Remote("s3://shop", key)


@pytest.mark.parametrize(
    "path",
    [
        "../a.jpg",
        "deep/../../a.jpg",
        "../images2/a.jpg",
        "s3://shop/images2/a.jpg",
        "s3://shop/a.jpg",
        "s3://other/images/a.jpg",
    ],
)
def test_a_row_may_leave_only_if_the_operator_says_so(path: str) -> None:
    with pytest.raises(
        InputError, match="leaves the image base path s3://shop/images; allow outside images"
    ):
        BASE.below(path)
    assert not str(BASE.below(path, outside=True)).startswith("s3://shop/images/")


@pytest.mark.parametrize(
    "path",
    [
        "https://169.254.169.254/latest/meta-data",
        "http://shop/images/a.jpg",
        "file:///etc/passwd",
        "gs://shop/images/a.jpg",
        "memory://shop/images/a.jpg",
        "/etc/passwd",
        "//shop/images/a.jpg",
        "../../a.jpg",
        "..",
        "s3://shop/images/../a.jpg",
        "s3://shop/images/a.jpg/",
        "s3://shop//a.jpg",
        "s3://a b/c.jpg",
    ],
)
@pytest.mark.parametrize("outside", [False, True])
def test_nothing_lets_a_row_leave_the_kind_of_store(path: str, outside: bool) -> None:
    with pytest.raises(InputError):
        BASE.below(path, outside=outside)


def test_of_abfs_a_row_can_not_leave_the_account() -> None:
    base = Remote.of("abfs://box@ours.dfs.core.windows.net/images")
    assert (
        str(base.below("abfs://other@ours.dfs.core.windows.net/a.jpg", outside=True))
        == "abfs://other@ours.dfs.core.windows.net/a.jpg"
    )
    with pytest.raises(InputError, match="is of another store"):
        base.below("abfs://box@theirs.dfs.core.windows.net/a.jpg", outside=True)


def test_an_object_is_written_whole_and_read_in_pieces(store: Remote) -> None:
    place, data = store / "big", os.urandom(1000) * 9000
    with place.writing() as file:
        file.write(data)
        assert store.listing() == {}
    with open_located(place) as read:
        assert read.read(10) == data[:10]
        assert read.seek(-10, io.SEEK_END) == len(data) - 10
        assert read.read() == data[-10:]
        read.seek(READ - 5)
        assert read.read(10) == data[READ - 5 : READ + 5]
    assert place.read(5, 7) == data[5:7]
    assert open_located(place).read() == data
    with pytest.raises(ZeroDivisionError), place.writing() as file:
        file.write(b"half" * (1 // 0))
    assert store.listing() == {"big": len(data)}


def test_an_empty_object(store: Remote) -> None:
    (store / "empty").write(b"")
    assert (store / "empty").read(0, 10) == b""
    assert open_located(store / "empty").read() == b""


def test_what_lies_below_is_listed_read_and_removed(store: Remote) -> None:
    for name, data in {"a": b"1", "b": b"22", "deep/c": b"333"}.items():
        (store / name).write(data)
    assert store.listing() == {"a": 1, "b": 2, "deep": None}
    assert store.read_all(["b", "a"]) == [b"22", b"1"]
    assert store.read_all(["b"]) == [b"22"]
    assert store.read_all([]) == []
    store.remove(["a", "gone"])
    assert store.listing() == {"b": 2, "deep": None}
    (store / "b").write(b"")
    assert store.listing()["b"] == 0


def test_a_version_differs_once_the_object_is_written_anew(store: Remote) -> None:
    (store / "rows.csv").write(b"one")
    before = (store / "rows.csv").version()
    assert (store / "rows.csv").version() == before
    (store / "rows.csv").write(b"two")
    assert (store / "rows.csv").version() != before


def test_an_absent_object_is_an_absent_file(store: Remote) -> None:
    for ask in ((store / "gone").open, lambda: (store / "gone").read(0, 9)):
        with pytest.raises(FileNotFoundError, match="there is no such object"):
            ask()
    with pytest.raises(CheckpointError, match=f"{store / 'gone'}: there is no such object"):
        (store / "gone").version()


def test_an_object_that_is_cut_short_while_it_is_read_is_no_end_of_file(store: Remote) -> None:
    (store / "rows").write(b"0123456789")
    file = (store / "rows").open()
    assert file.read(4) == b"0123"
    (store / "rows").write(b"01234")
    with pytest.raises(OSError, match="it was changed while it was read"):
        file.read(4)


def test_without_its_packages_the_pip_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(
        MissingExtraError, match=r"^gs:// needs the package gcsfs: pip install gcsfs$"
    ):
        Remote.of("gs://shop/a").open()
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(
        MissingExtraError,
        match=(
            r"^reading or writing memory://unasked needs the extra \[remote\]: pip install"
            r' "mismatch-clip\[remote\]"$'
        ),
    ):
        Remote.of("memory://unasked/a").open()


def test_the_module_itself_needs_neither() -> None:
    code = (
        "import sys, mismatch.cli.predict, mismatch.io.remote; print({'fsspec', 's3fs', 'pyarrow'} &"
        " set(sys.modules))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "set()\n"
    )


@contextmanager
def failing(statuses: list[int], code: str = "") -> Iterator[str]:
    """The address of a server that answers with these statuses, one after the other, then with an
    object; and empties the list.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = statuses.pop(0) if statuses else 206
            body = (
                b"content"
                if status == 206
                else f"<Error><Code>{code}</Code><Message>of AKIASECRET</Message></Error>".encode()
            )
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


ASK = """
import sys
from mismatch.errors import MismatchError
from mismatch.io.remote import Remote
from mismatch.io.retries import retried
try:
    print(retried(lambda: Remote.of("s3://shop/a.jpg").read(0, 100)))
except (OSError, MismatchError) as error:
    print(type(error).__name__, error)
"""


def asked(address: str, **environment: str) -> str:
    """What a process says that reads from this server."""
    named = {
        "AWS_ACCESS_KEY_ID": "AKIASECRET",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": address,
    }
    environment = {
        **os.environ,
        **named,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "SECRET" not in done.stdout.upper()
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ValueError("of AKIASECRET"),
            "memory://shop/a: the store's package refuses it (ValueError)",
        ),
        (
            TimeoutError("of AKIASECRET"),
            "memory://shop/a: the store can't be reached (TimeoutError), tried 4 times",
        ),
        (
            ConnectionResetError("of AKIASECRET"),
            "memory://shop/a: the store can't be reached (ConnectionResetError), tried 4 times",
        ),
    ],
)
def test_what_a_package_refuses_is_no_network_that_is_down(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = pytest.importorskip("fsspec.implementations.memory")

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(memory.MemoryFileSystem, "pipe_file", fail)
    with pytest.raises(CheckpointError) as caught:
        Remote.of("memory://shop/a").write(b"")
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("statuses", "code", "said"),
    [
        ([503, 500, 503], "SlowDown", "b'content'"),
        ([500] * 99, "InternalError", "OSError [Errno 5] the store fails (HTTP 500)"),
        (
            [403],
            "AccessDenied",
            (
                "PermissionError [Errno 13] access denied; let the credentials of this environment"
                " read and write there"
            ),
        ),
        (
            [403],
            "ExpiredToken",
            (
                "MachineError s3://shop takes no credentials of this environment; set or renew"
                " them, as s3fs documents"
            ),
        ),
        (
            [403],
            "InvalidAccessKeyId",
            (
                "MachineError s3://shop takes no credentials of this environment; set or renew"
                " them, as s3fs documents"
            ),
        ),
        ([404], "NoSuchKey", "FileNotFoundError [Errno 2] there is no such object"),
        ([400], "InvalidRequest", "OSError [Errno 22] the store refuses it (HTTP 400)"),
    ],
)
def test_what_may_pass_is_tried_again_and_what_can_not_is_said_in_our_own_words(
    statuses: list[int], code: str, said: str
) -> None:
    pytest.importorskip("s3fs", reason="s3fs is not installed; pip install s3fs")
    left = list(statuses)
    with failing(left, code) as address:
        assert asked(address) == said
    # of ours, as the store's own client is told to try once
    assert len(left) == max(0, len(statuses) - 4)


def test_without_credentials_and_without_a_server(tmp_path: Path) -> None:
    pytest.importorskip("s3fs", reason="s3fs is not installed; pip install s3fs")
    none = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "HOME": str(tmp_path),
    }
    with failing([]) as address:
        assert (
            asked(address, **none)
            == "MachineError s3://shop takes no credentials of this environment; set or renew them,"
            " as s3fs documents"
        )
    assert asked("http://127.0.0.1:9").startswith(
        "OSError [Errno 113] the store can't be reached (EndpointConnectionError)"
    )
