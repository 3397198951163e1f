"""Repositories of the hub: downloaded once, whole or not at all, and read from the cache after."""

from __future__ import annotations

import os
import shutil
import sys
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import CheckpointError, MachineError
from mismatch.progress import shown_by
from mismatch.runtime.hub import HubName, Snapshot, fetch, small_files
from tests.support.hub import TOKEN, Hub
from tests.support.processes import finished

NAME = "shop/model"
FILES = {"config.json": b"{}", "model.safetensors": b"w" * 5000, "code.py": b"print()"}


def weights(_folder: Path, names: Sequence[str]) -> list[str]:
    return [name for name in names if name.endswith(".safetensors")]


def fetched(name: str = NAME) -> Snapshot:
    return fetch(HubName.of(name), small_files, weights)


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("shop/model", "shop/model", None),
        ("gpt2", "gpt2", None),
        ("shop/model@v1.0", "shop/model", "v1.0"),
        ("shop/model@refs/pr/3", "shop/model", "refs/pr/3"),
    ],
)
def test_a_name_may_have_a_revision(text: str, repository: str, revision: str | None) -> None:
    name = HubName.of(text)
    assert (name.repository, name.revision, str(name)) == (repository, revision, text)
    assert not name.is_commit
    assert HubName.of(f"shop/model@{'0a' * 20}").is_commit


@pytest.mark.parametrize(
    "text",
    [
        *("", "a/b/c", "../b", "/etc", "a/..", "a b", "-a/b", "a/b@", "a/b@../../x", "a/b@-x"),
        *("a--b/c", "a/" + "b" * 100, "a/b@" + "c" * 100, "https://hub/a/b", "a/b\n"),
    ],
)
def test_what_can_be_no_name_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match=r"no name on a model hub|no revision behind"):
        HubName.of(text)


def test_files_beside_weights_are_data_in_the_repository_itself() -> None:
    names = ["config.json", "vocab.txt", "spiece.model", "x.py", "deep/config.json", "w.bin"]
    assert small_files(names) == ["config.json", "vocab.txt", "spiece.model"]


def test_a_repository_is_downloaded_once(hub: Hub) -> None:
    commit = hub.add(NAME, FILES)
    snapshot = fetched()
    assert snapshot.commit == commit
    assert {path.name: path.read_bytes() for path in snapshot.folder.iterdir()} == {
        name: content for name, content in FILES.items() if name != "code.py"
    }
    hub.requests.clear()
    assert fetched() == snapshot
    assert [one.path for one in hub.requests] == [f"/api/models/{NAME}?blobs=true"]


def test_a_commit_that_is_cached_asks_nothing(hub: Hub) -> None:
    commit = hub.add(NAME, FILES)
    snapshot = fetched(f"{NAME}@{commit}")
    hub.requests.clear()
    assert fetched(f"{NAME}@{commit}") == snapshot
    assert hub.requests == []


def test_a_tag_and_a_commit_name_their_own_files(hub: Hub) -> None:
    first = hub.add(NAME, FILES, revision="v1")
    second = hub.add(NAME, FILES | {"config.json": b"[]"})
    assert fetched(f"{NAME}@v1").commit == first
    assert fetched().commit == second
    assert (fetched(f"{NAME}@{first}").folder / "config.json").read_bytes() == b"{}"


def test_offline_the_cache_is_read(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, FILES, revision="v1")
    hub.add(NAME, FILES)
    snapshots = [fetched(), fetched(f"{NAME}@v1")]
    offline(monkeypatch)
    hub.requests.clear()
    assert [fetched(), fetched(f"{NAME}@v1")] == snapshots
    assert hub.requests == []


def test_a_hub_that_fails_is_not_needed(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    hub.add(NAME, FILES)
    snapshot = fetched()
    hub.failing = 503
    with caplog.at_level("INFO", "mismatch"):
        assert fetched() == snapshot
    [record] = [one for one in caplog.records if one.name.startswith("mismatch")]
    assert record.levelname == "INFO"
    assert snapshot.commit in record.getMessage()
    with pytest.raises(CheckpointError, match="answers 503"):
        fetched("shop/other")


def test_what_was_withdrawn_is_read_from_the_cache_with_a_warning(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    hub.add(NAME, FILES)
    snapshot = fetched()
    hub.repositories[NAME].private = True
    assert fetched() == snapshot
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"'{NAME}'" in caplog.text


def test_offline_a_part_is_not_taken_for_the_whole(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, FILES)
    folder = fetched().folder
    (folder / "model.safetensors").unlink()
    offline(monkeypatch)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE"):
        fetched()


def test_an_interrupted_update_leaves_the_earlier_one(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hub.add(NAME, FILES)
    fetched()
    second = hub.add(NAME, FILES | {"model.safetensors": b"v" * 5000, "config.json": b"[]"})
    hub.objects.clear()  # weights can't be had
    with pytest.raises(CheckpointError, match="try again"):
        fetched()
    offline(monkeypatch)
    assert fetched().commit == first
    with pytest.raises(CheckpointError, match="not whole"):
        fetched(f"{NAME}@{second}")


def test_a_second_run_goes_on_with_what_is_missing(hub: Hub) -> None:
    parts = {f"model-{i}.safetensors": bytes([i]) * 3000 for i in range(3)}
    hub.add(NAME, {"config.json": b"{}"} | parts)
    objects = dict(hub.objects)
    for digest, content in objects.items():
        if content == parts["model-2.safetensors"]:
            del hub.objects[digest]
    with pytest.raises(CheckpointError, match="try again"):
        fetched()
    hub.objects = objects
    hub.requests.clear()
    assert len(list(fetched().folder.iterdir())) == 4
    assert {one.path.rpartition("/")[2].partition("?")[0] for one in hub.asked("model-")} == {
        "model-2.safetensors"
    }


def test_a_connection_that_breaks_goes_on_where_it_stopped(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 500)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _seconds: None)
    content = os.urandom(20_000)
    hub.add(NAME, FILES | {"model.safetensors": content})
    hub.cut["model.safetensors"] = 12_345
    assert (fetched().folder / "model.safetensors").read_bytes() == content
    assert [one.range for one in hub.requests if one.server == "storage"] == ["", "bytes=12000-"]


def test_a_renamed_repository_is_found_and_the_new_name_said(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    commit = hub.add("shop/new", FILES)
    hub.renamed["shop/old"] = "shop/new"
    assert fetched("shop/old").commit == commit
    assert "'shop/old' is called 'shop/new'" in caplog.text


def test_a_repository_without_weights_is_refused(hub: Hub) -> None:
    hub.add(NAME, {"config.json": b"{}"})
    with pytest.raises(CheckpointError, match="no weights"):
        fetched()


def test_a_small_file_may_not_be_huge(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mismatch.runtime.hub.LARGEST_SMALL", 100)
    hub.add(NAME, FILES | {"tokenizer.json": b"x" * 101})
    with pytest.raises(CheckpointError, match=r"tokenizer\.json of 101 bytes"):
        fetched()
    assert hub.asked("resolve") == []


def test_a_disk_without_room_is_said_before_anything_is_downloaded(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, FILES)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10_000, 9_000, 1_000))
    with pytest.raises(MachineError, match=r"hub-cache.*HF_HOME"):
        fetched()
    assert hub.asked("model.safetensors") == []


FULL_DISK = """
mount -t tmpfs -o size=200k none {cache} || exit 77
exec {python} -c "
import shutil, sys
from collections import namedtuple
shutil.disk_usage = lambda path: namedtuple('usage', 'total used free')(10**9, 0, 10**9)
from mismatch.errors import MachineError
from mismatch.runtime.hub import HubName, fetch, small_files
try:
    fetch(HubName.of('shop/model'), small_files, lambda folder, names: ['model.safetensors'])
except MachineError as error:
    print(error)
"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a small disk of its own")
def test_a_disk_that_fills_up_is_said(hub: Hub, tmp_path: Path) -> None:
    """On a disk of 200 kB, which only the download itself finds full."""
    hub.add(NAME, FILES | {"model.safetensors": os.urandom(2**20)})
    cache = tmp_path / "small"
    cache.mkdir()
    program = FULL_DISK.format(cache=cache, python=sys.executable)
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache)}
    try:
        done = finished(["unshare", "-rm", "sh", "-c", program], env=environment)
    except FileNotFoundError:
        pytest.skip("there is no unshare; install util-linux")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this system lets nobody mount a disk of its own")
    assert f"the disk of {cache}" in done.stdout, done.stderr
    assert "HF_HOME" in done.stdout


@pytest.mark.parametrize("is_terminal", [True, False])
def test_bars_are_drawn_on_a_terminal_and_by_commands_only(
    is_terminal: bool,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import huggingface_hub

    from mismatch.cli.progress import progress_bar

    large = FILES | {"model.safetensors": b"w" * 2**20}
    hub.add(NAME, large)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    utils: Any = huggingface_hub.utils
    utils.disable_progress_bars()  # as transformers may have done
    try:
        with shown_by(progress_bar):
            fetched()
        assert utils.are_progress_bars_disabled()
    finally:
        utils.enable_progress_bars()
    assert ("model.safetensors" in capsys.readouterr().err) is is_terminal
    hub.add("shop/other", large)
    fetched("shop/other")
    assert capsys.readouterr() == ("", "")


def test_a_token_goes_to_the_hub_alone(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, FILES)
    hub.repositories[NAME].gated = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    fetched()
    assert {one.token for one in hub.asked("resolve")} == {TOKEN}
    assert [one.token for one in hub.requests if one.server == "storage"] == [""]
