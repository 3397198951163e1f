"""Backbones of a hub: which files are weights, and what is refused before they are downloaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mismatch.backbones.hub import fetch_backbone, fetch_small, pinned, transformers_weights
from mismatch.errors import BackboneError
from tests.support.hub import Hub

NAME = "shop/clip"
SAFE = "model.safetensors"
PICKLED = "pytorch_model.bin"


def index(*parts: str) -> bytes:
    return json.dumps({"weight_map": {f"w{i}": part for i, part in enumerate(parts)}}).encode()


@pytest.mark.parametrize(
    ("files", "weights"),
    [
        ({SAFE: b"", PICKLED: b""}, [SAFE]),
        ({PICKLED: b""}, [PICKLED]),
        ({f"{SAFE}.index.json": index("b", "a", "b")}, ["a", "b"]),
        ({f"{SAFE}.index.json": index("a"), PICKLED: b""}, ["a"]),
        ({f"{PICKLED}.index.json": index("a.bin")}, ["a.bin"]),
        ({f"{SAFE}.index.json": b"[]"}, []),
        ({"flax_model.msgpack": b""}, []),
    ],
)
def test_weights_are_those_that_transformers_reads(
    tmp_path: Path, files: dict[str, bytes], weights: list[str]
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert transformers_weights(tmp_path, list(files)) == weights


def fetched() -> Any:
    return fetch_backbone(NAME, NAME, "toy", transformers_weights)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({f"{SAFE}.index.json": index("../../../passwd")}, r"\.\./passwd"),
        ({"adapter_config.json": b"{}", SAFE: b"w"}, "adapter"),
        ({"config.json": b'{"backbone": "hf-hub:a/b"}', SAFE: b"w"}, "hf-hub:a/b"),
        ({"config.json": b'{"attn_implementation": "shop/kernel"}', SAFE: b"w"}, "shop/kernel"),
        ({"config.json": b"{", SAFE: b"w"}, "not valid JSON"),
        ({f"{SAFE}.index.json": index("missing.safetensors")}, "has no missing"),
    ],
)
def test_a_repository_that_names_files_elsewhere_is_refused_before_its_weights_come(
    hub: Hub, files: dict[str, bytes], reason: str
) -> None:
    hub.add(NAME, files)
    with pytest.raises(BackboneError, match=f"toy: .*{reason}"):
        fetched()
    assert [one for one in hub.requests if one.server == "storage"] == []


def test_its_code_and_its_other_weights_are_left_there(hub: Hub) -> None:
    files = {"config.json": b"{}", SAFE: b"w", PICKLED: b"p", "modeling.py": b"", "a/b.json": b""}
    commit = hub.add(NAME, files)
    snapshot = fetched()
    assert snapshot.commit == commit
    assert {path.name for path in snapshot.folder.rglob("*")} == {"config.json", SAFE}


def test_a_tokenizer_alone_needs_no_weights(hub: Hub) -> None:
    hub.add(NAME, {"tokenizer.json": b"{}", "vocab.txt": b"a", SAFE: b"w"})
    folder = fetch_small(NAME, "toy", ["tokenizer.json", "tokenizer_config.json"])
    assert {path.name for path in folder.iterdir()} == {"tokenizer.json", "vocab.txt"}
    with pytest.raises(BackboneError, match="toy: "):
        fetch_small(NAME, "toy", ["config.json"])


@pytest.mark.parametrize(
    ("model_id", "commit", "name"),
    [
        ("a/b", "0" * 40, f"a/b@{'0' * 40}"),
        ("a/b@v1", "0" * 40, None),
        ("tiny", "", None),
    ],
)
def test_a_name_without_a_revision_has_a_pinned_form(
    model_id: str, commit: str, name: str | None
) -> None:
    assert pinned(model_id, commit) == name


def test_what_is_chosen_is_asked_of_the_names_that_are_there(hub: Hub) -> None:
    hub.add(NAME, {"config.json": b"{}", "w.safetensors": b"w"})
    seen: list[Sequence[str]] = []

    def choose(folder: Path, names: Sequence[str]) -> list[str]:
        assert (folder / "config.json").is_file()
        seen.append(names)
        return ["w.safetensors"]

    fetch_backbone(NAME, NAME, "toy", choose)
    assert seen == [["config.json", "w.safetensors"]]
