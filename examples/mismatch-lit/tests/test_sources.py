"""The model hub: reached once, and its absence is one line."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from mismatch import BackboneError
from mismatch_lit import sources


def test_an_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def fail(url: str, **more: Any) -> None:
        asked.append((url, more))
        raise OSError("no route to host.\nhave a look at your cable")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail)
    with pytest.raises(BackboneError) as caught:
        sources.reach_hub("some/model", ["config.json"], "some/model")
    assert str(caught.value).startswith(
        "lit: 'some/model' is neither a local directory nor to be had from the model hub (no route"
        " to host); give a directory"
    )
    ((url, more),) = asked
    assert url.endswith("/some/model/resolve/main/config.json")
    assert more == {"timeout": 10}


def test_a_cached_file_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda repository, file: "/cache/b" if file == "b" else None,
    )
    monkeypatch.setattr(
        huggingface_hub,
        "get_hf_file_metadata",
        lambda *args, **more: pytest.fail("the hub was asked"),
    )
    sources.reach_hub("some/model", ["a", "b"], "some/model")


def test_a_file_that_the_hub_lacks_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def download(repository: str, name: str) -> str:
        if name == "modules.json":
            raise LocalEntryNotFoundError("not there")
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert sources.hub_file("some/model", "modules.json") is None
    assert sources.hub_file("some/model", "config.json") == tmp_path / "config.json"


def test_quiet_puts_the_loggers_back() -> None:
    logger = logging.getLogger("timm")
    before = logger.level
    with sources.quiet():
        assert logger.level == logging.CRITICAL
    assert logger.level == before
