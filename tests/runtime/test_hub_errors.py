"""What goes wrong with a hub: one line, with the remedy, and no secret in it."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

from mismatch.errors import CheckpointError, MachineError
from mismatch.runtime.hub import HubName, fetch, small_files
from mismatch.runtime.hub_errors import hub_errors, hub_host, hub_page
from tests.support.hub import Hub
from tests.support.processes import free_port

NAME = "shop/model"
WRONG = "hf_a_token_of_nobody"


def refusal(name: str = NAME) -> str:
    """Return why a repository is not to be had."""
    with pytest.raises(CheckpointError) as caught:
        fetch(HubName.of(name), small_files, lambda _folder, _names: ["w.safetensors"])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def add(hub: Hub) -> None:
    hub.add(NAME, {"config.json": b"{}", "w.safetensors": b"w"})


def test_a_gated_repository_names_its_page_and_the_login(hub: Hub) -> None:
    add(hub)
    hub.repositories[NAME].gated = True
    message = refusal()
    assert f"{hub.url}/{NAME}" in message
    assert "hf auth login" in message
    assert "HF_TOKEN" in message


@pytest.mark.parametrize("private", [True, False])
def test_a_missing_and_a_private_repository_look_alike(private: bool, hub: Hub) -> None:
    if private:
        add(hub)
        hub.repositories[NAME].private = True
    message = refusal()
    assert f"has no '{NAME}', or it is private" in message
    assert "hf auth login" in message


def test_a_wrong_token_is_refused_without_being_shown(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(hub)
    monkeypatch.setenv("HF_TOKEN", WRONG)
    message = refusal()
    assert "refuses your token" in message
    assert WRONG not in message


def test_a_revision_that_is_not_there_is_named(hub: Hub) -> None:
    add(hub)
    message = refusal(f"{NAME}@v9")
    assert f"'{NAME}@v9'" in message
    assert f"{hub.url}/{NAME}/commits/main" in message


def test_a_hub_that_fails_is_asked_once(hub: Hub) -> None:
    hub.failing = 500
    started = time.monotonic()
    assert "answers 500" in refusal()
    assert time.monotonic() - started < 5
    assert len(hub.asked(NAME)) == 1


def test_a_hub_that_is_not_there(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert "can't be reached" in refusal()


def test_offline_says_what_forbids_it(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refusal()
    assert hub.requests == []


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "make room"), (errno.EDQUOT, "make room"), (errno.EROFS, "can't be written")],
)
def test_a_disk_that_fails_is_the_machines(number: int, remedy: str) -> None:
    expected = pytest.raises(MachineError, match=rf"/cache.*{remedy}.*HF_HOME")
    with expected, hub_errors(NAME, None, Path("/cache")):
        raise OSError(number, "no")


def test_a_full_disk_is_known_by_the_words_of_a_library_in_rust() -> None:
    expected = pytest.raises(MachineError, match=r"/cache.*is full")
    with expected, hub_errors(NAME, None, Path("/cache")):
        raise RuntimeError("IO Error: No space left on device (os error 28)")


def test_an_address_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://me:secret@hub.example:8")
    assert hub_host() == "hub.example:8"
    assert hub_page(NAME) == f"https://hub.example:8/{NAME}"


def test_a_signed_address_is_not_repeated() -> None:
    with pytest.raises(CheckpointError) as caught, hub_errors(NAME, None, Path("/cache")):
        raise RuntimeError("failed at https://storage.example/x?Signature=secret")
    assert "secret" not in str(caught.value)
