"""Untrusted bundles, whose hashes are true and whose content is wrong, end as one
CheckpointError when they are opened, and in time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import mismatch
from mismatch.errors import CheckpointError
from mismatch.runtime import onnx_engine as sessions
from mismatch.runtime import onnx_graph, time_limit
from tests.support import hostile
from tests.support.paths import BUNDLE

HEAD = {"image_embedding": ["b", hostile.IMAGE], "text_embedding": ["b", hostile.TEXT]}
PIXELS = {"pixel_values": ["b", 3, hostile.SIZE, hostile.SIZE]}
IDS = {"input_ids": ["b", "l"], "attention_mask": ["b", "l"]}
HEAD_FILE, IMAGE_FILE, TEXT_FILE = "head.onnx", "image_encoder.onnx", "text_encoder.onnx"
Change = Callable[[Path], Path]


def refused(folder: Path) -> str:
    """The one line with which it is refused."""
    with pytest.raises(CheckpointError) as caught:
        mismatch.load(folder, "cpu", threads=1)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def graph(name: str, content: bytes) -> Change:
    return lambda folder: hostile.with_file(folder, name, content)


def lookup(rows: int) -> bytes:
    """A text tower whose table has so many rows."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["found"]),
        helper.make_node("ReduceSum", ["found", "axis"], ["text_embedding"], keepdims=0),
    ]
    table = np.ones((rows, hostile.TEXT), np.float32)
    return hostile.model(
        nodes, IDS, "text_embedding", ["b", hostile.TEXT], {"table": table, "axis": np.array([1])}
    )


def larger_pictures() -> bytes:
    """An image tower for pictures of 9 pixels."""
    mean = helper.make_node("ReduceMean", ["pixel_values"], ["image_embedding"])
    return hostile.model([mean], {"pixel_values": [1, 3, 9, 9]}, "image_embedding", None)


COMPILED = helper.make_node(
    "EPContext",
    ["image_embedding"],
    ["logit"],
    domain="com.microsoft",
    ep_cache_context="/etc/passwd",
)
GRAPHS: dict[str, tuple[str, bytes]] = {
    "logits in a column": (
        HEAD_FILE,
        hostile.constant(np.zeros((2, 1), np.float32), HEAD, "logit"),
    ),
    "one logit for all": (HEAD_FILE, hostile.constant(np.zeros(1, np.float32), HEAD, "logit")),
    "a logit without a shape": (HEAD_FILE, hostile.constant(np.float32(1), HEAD, "logit")),
    "whole logits": (
        HEAD_FILE,
        hostile.model(
            [helper.make_node("Identity", ["input_ids"], ["logit"])],
            {"input_ids": ["b"]},
            "logit",
            ["b"],
        ),
    ),
    "no input": (HEAD_FILE, hostile.constant(np.zeros(3, np.float32), {}, "logit")),
    "other inputs": (HEAD_FILE, hostile.constant(np.zeros(2, np.float32), {"x": ["b"]}, "logit")),
    "an input too many": (
        HEAD_FILE,
        hostile.constant(np.zeros(2, np.float32), HEAD | {"x": ["b"]}, "logit"),
    ),
    "wider images": (
        IMAGE_FILE,
        hostile.constant(np.zeros((1, 9), np.float32), PIXELS, "image_embedding"),
    ),
    "another output": (
        IMAGE_FILE,
        hostile.constant(np.zeros((1, 8), np.float32), PIXELS, "pooled"),
    ),
    "larger pictures": (IMAGE_FILE, larger_pictures()),
    "texts become one": (
        TEXT_FILE,
        hostile.constant(np.zeros((1, hostile.TEXT), np.float32), IDS, "text_embedding"),
    ),
    "fewer words than the tokenizer": (TEXT_FILE, lookup(2)),
    "onnxruntime's own format": (HEAD_FILE, b"\x12\x02\x10\x00ORTM" + bytes(64)),
    "not onnx": (HEAD_FILE, b"hello"),
    "an operator that is none": (
        HEAD_FILE,
        hostile.model(
            [helper.make_node("Nothing", ["image_embedding"], ["logit"])], HEAD, "logit", ["b"]
        ),
    ),
    "a compiled part elsewhere": (HEAD_FILE, hostile.model([COMPILED], HEAD, "logit", ["b"])),
}


@pytest.mark.parametrize(("name", "content"), GRAPHS.values(), ids=GRAPHS)
def test_a_wrong_graph_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    assert name in refused(hostile.with_file(hostile.copied(tmp_path / "b"), name, content))


@pytest.mark.parametrize("body", [True, False])
@pytest.mark.parametrize(
    ("name", "inputs", "output"),
    [(HEAD_FILE, HEAD, "logit"), (IMAGE_FILE, PIXELS, "image_embedding")],
)
def test_a_graph_that_does_not_end_is_given_up(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    inputs: dict[str, Any],
    output: str,
    body: bool,
) -> None:
    if not body:
        endless_in_a_process_of_its_own(
            hostile.with_file(
                hostile.copied(tmp_path / "b"), name, hostile.endless(output, inputs, body=False)
            )
        )
        return
    monkeypatch.setattr(onnx_graph, "TRYING", (0.5, 0.0))
    assert "does not end" in refused(
        hostile.with_file(hostile.copied(tmp_path / "b"), name, hostile.endless(output, inputs))
    )


def endless_in_a_process_of_its_own(folder: Path) -> None:
    """A thread that can't be stopped must not keep the process from ending."""
    script = "\n".join(
        [
            "import sys, mismatch",
            "from mismatch.runtime import onnx_engine as sessions, onnx_graph, time_limit",
            "onnx_graph.TRYING, time_limit.GRACE = (0.5, 0.0), 0.5",
            "try: mismatch.load(sys.argv[1], 'cpu', threads=1)",
            "except mismatch.MismatchError as error: print(type(error).__name__, error)",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    assert done.stdout.startswith("CheckpointError")
    assert "does not end" in done.stdout


def test_a_graph_that_loses_rows_later_is_found_then(tmp_path: Path) -> None:
    folder = hostile.with_file(
        hostile.copied(tmp_path / "b"),
        HEAD_FILE,
        hostile.constant(np.zeros(2, np.float32), HEAD, "logit"),
    )
    engine = sessions.open_bundle(folder, provider="cpu", threads=1)
    with pytest.raises(CheckpointError, match=r"head\.onnx gives logit of shape \(2,\)"):
        engine.logits(
            np.zeros((3, hostile.IMAGE), np.float32), np.zeros((3, hostile.TEXT), np.float32)
        )


def set_in(part: str, **values: Any) -> Change:
    """A part of the manifest with other values."""
    return lambda folder: hostile.with_manifest(folder, lambda data: data[part].update(values))


def set_to(**values: Any) -> Change:
    return lambda folder: hostile.with_manifest(folder, lambda data: data.update(values))


def longer_context(folder: Path) -> Path:
    """A bundle whose text graph has places for `CONTEXT` tokens, and whose manifest says more."""
    nodes = [
        helper.make_node("CumSum", ["attention_mask", "axis"], ["counted"]),
        helper.make_node("Sub", ["counted", "one"], ["places"]),
        helper.make_node("Gather", ["table", "places"], ["found"]),
        helper.make_node("ReduceSum", ["found", "axes"], ["text_embedding"], keepdims=0),
    ]
    weights = {
        "table": np.ones((hostile.CONTEXT, hostile.TEXT), np.float32),
        "one": np.array([1]),
        "axis": np.array(1),
        "axes": np.array([1]),
    }
    tower = hostile.model(nodes, IDS, "text_embedding", ["b", hostile.TEXT], weights)
    hostile.with_file(folder, TEXT_FILE, tower)
    sessions.open_bundle(folder, provider="cpu", threads=1)  # as long as that is true
    return set_in("text_spec", context_length=hostile.CONTEXT + 1)(folder)


HUGE = 10**400
MANIFESTS: dict[str, Change] = {
    "means as text": set_in("image_spec", mean=["a", "b", "c"]),
    "one mean": set_in("image_spec", mean=["a"]),
    "a mean beyond numbers": set_in("image_spec", mean=[HUGE, 0, 0]),
    "spreads of nothing": set_in("image_spec", std=[0, 1, 1]),
    "a size as text": set_in("image_spec", size="8"),
    "a size of a thousand millions": set_in("image_spec", size=10**9),
    "a size of true": set_in("image_spec", size=True),
    "a resize of a thousand millions": set_in("image_spec", resize=10**9),
    "a colour that is none": set_in("image_spec", fill=[0, 0, 256]),
    "a mode of a list": set_in("image_spec", mode=["squash"]),
    "another size than the graph's": set_in("text_spec", context_length=1),
    "a longer context than the graph's": longer_context,
    "a pad beyond 64 bits": set_in("text_spec", pad_id=2**70),
    "a pad beyond the table": set_in("text_spec", pad_id=10**6),
    "a negative pad": set_in("text_spec", pad_id=-1),
    "a context as text": set_in("text_spec", context_length="77"),
    "a context of a thousand millions": set_in("text_spec", context_length=10**9),
    "cleaning by a number": set_in("text_spec", cleaning=1),
    "widths as text": set_in("head", image_dim="8"),
    "other widths": set_in("head", image_dim=9),
    "a width of a thousand millions": set_in("head", text_dim=10**9),
    "a width of nothing": set_in("head", text_dim=0),
    "members without number": set_in("head", members=10**9),
    "features by a number": set_in("head", image_features=3),
    "features of numbers": set_in("head", image_features=[3]),
    "a threshold as text": set_in(
        "score", threshold={"value": "0.5", "objective": "f1", "rows": 3, "date": "2026-01-01"}
    ),
    "a threshold of null": set_in(
        "score", threshold={"value": None, "objective": "f1", "rows": 3, "date": "2026-01-01"}
    ),
    "a threshold that is none": set_in("score", threshold=[]),
    "a default threshold as text": set_in("score", default_threshold="0.5"),
    "earlier thresholds by a number": set_in("score", earlier=7),
    "a slope as text": set_in("score", calibration={"slope": "1", "intercept": 0, "rows": 2}),
    "knots as text": set_in(
        "score",
        calibration={
            "slope": 1,
            "intercept": 0,
            "rows": 2,
            "kind": "piecewise",
            "knots": ["a", "b"],
            "bent": ["a", "b"],
        },
    ),
    "a review band as text": set_in("score", review={"low": "0.1", "high": "0.2"}),
    "slices as text": set_in(
        "score", review=None, slices={"column": "a", "values": {"b": "0.5"}, "rows": {}}
    ),
    "a reference by a number": set_in("score", reference=5),
    "a score by a number": set_to(score=5),
    "a head by a list": set_to(head=[]),
    "a backbone by a list": set_to(backbone=[]),
    "a backbone without a name": set_to(backbone={"family": 3, "model_id": []}),
    "a precision by a number": set_to(precision=32),
    "an opset as text": set_to(opset="20"),
    "a format of true": set_to(format_version=True),
    "files by a list": set_to(files=[]),
    "a hash by a number": lambda folder: hostile.with_manifest(
        folder, lambda data: data["files"].update({"head.onnx": 5})
    ),
    "a file in a folder": lambda folder: hostile.with_manifest(
        folder, lambda data: data["files"].update({"a/b": "0" * 64})
    ),
    "a file above": lambda folder: hostile.with_manifest(
        folder, lambda data: data["files"].update({"..": "0" * 64})
    ),
    "a file with a zero": lambda folder: hostile.with_manifest(
        folder, lambda data: data["files"].update({"a\0": "0" * 64})
    ),
    "a nested backbone": lambda folder: hostile.with_manifest(
        folder, lambda data: data["backbone"].update({"a": json.loads("[" * 300 + "]" * 300)})
    ),
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS)
def test_a_wrong_manifest_is_refused(tmp_path: Path, change: Change) -> None:
    assert "b/" in refused(change(hostile.copied(tmp_path / "b")))


@pytest.mark.parametrize(
    "written", ["NaN", "Infinity", "-Infinity", "1e999", "[" * 700 + "]" * 700]
)
def test_what_is_no_number_is_refused_wherever_it_stands(tmp_path: Path, written: str) -> None:
    folder = hostile.copied(tmp_path / "b")
    path = folder / "manifest.json"
    data = {
        name: value for name, value in json.loads(path.read_text()).items() if name != "checksum"
    }
    data["score"]["default_threshold"] = "@"
    path.write_text(json.dumps(data).replace('"@"', written))
    assert "manifest.json" in refused(folder)


TOKENIZER: dict[str, Any] = json.loads((BUNDLE / "tokenizer.json").read_text())
ONE = {"Sequence": {"id": "A", "type_id": 0}}
TWO = [ONE, {"Sequence": {"id": "B", "type_id": 0}}]
SPECIAL = {"SpecialToken": {"id": "X", "type_id": 0}}
X = {"X": {"id": "X", "ids": [2], "tokens": ["X"]}}


def replacing(pattern: dict[str, str], content: str, times: int) -> dict[str, Any]:
    return {
        "type": "Sequence",
        "normalizers": [{"type": "Replace", "pattern": pattern, "content": content}] * times,
    }


def splitting(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


TOKENIZERS: dict[str, dict[str, Any]] = {
    "a template without its token": {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [SPECIAL, ONE],
            "pair": TWO,
            "special_tokens": {},
        }
    },
    "more special tokens than fit": {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*[SPECIAL] * 20, ONE],
            "pair": TWO,
            "special_tokens": X,
        }
    },
    "a table that is none": {
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAAAAAA"}
    },
    "pieces of no length": {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    "texts that double": {"normalizer": replacing({"String": "a"}, "aa", 40)},
    "texts that double by an expression": {"normalizer": replacing({"Regex": "a"}, "aa", 40)},
    "a long replacement": {"normalizer": replacing({"String": "a"}, "a" * 10_000, 1)},
    "too many steps": {"normalizer": replacing({"String": "a"}, "b", 100)},
    "repeated repetition": {"pre_tokenizer": splitting("(a+)+$")},
    "repeated alternatives": {"pre_tokenizer": splitting("(a|a)*b")},
    "repeated repetition by numbers": {"pre_tokenizer": splitting("(a{1,}){2,}b")},
    "a reference back": {"pre_tokenizer": splitting("(a*)\\1b")},
    "sequences in sequences": {
        "normalizer": json.loads('{"type": "Sequence", "normalizers": [' * 30 + "]}" * 30)
    },
    "no model": {"model": None},
    "a model without its unknown": {
        "model": {"type": "WordLevel", "vocab": {"a": 1}, "unk_token": "[UNK]"}
    },
    "merges of nothing": {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}},
    "ids beyond 32 bits": {
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 2**40}, "unk_token": "[UNK]"}
    },
}


@pytest.mark.parametrize("changes", TOKENIZERS.values(), ids=TOKENIZERS)
def test_a_wrong_tokenizer_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    content = json.dumps(TOKENIZER | changes).encode()
    assert "tokenizer.json" in refused(
        hostile.with_file(hostile.copied(tmp_path / "b"), "tokenizer.json", content)
    )


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000])
def test_a_tokenizer_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "tokenizer.json" in refused(
        hostile.with_file(hostile.copied(tmp_path / "b"), "tokenizer.json", content)
    )


@pytest.mark.parametrize(
    "name", ["manifest.json", "tokenizer.json", HEAD_FILE, IMAGE_FILE, "parity.json"]
)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "missing link"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, name: str, kind: str) -> None:
    folder = hostile.copied(tmp_path / "b")
    (folder / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "device":
        (folder / name).symlink_to("/dev/zero")
    elif kind == "folder":
        (folder / name).mkdir()
    else:
        (folder / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(mismatch.MismatchError) as caught:
        sessions.open_bundle(folder, provider="cpu", threads=1)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json", HEAD_FILE])
def test_a_file_of_ten_gigabytes_is_not_read(tmp_path: Path, name: str) -> None:
    folder = hostile.copied(tmp_path / "b")
    with (folder / name).open("wb") as file:
        file.truncate(10 * 2**30)  # without blocks on the disk
    assert "larger than" in refused(folder)


@pytest.mark.parametrize(
    "name",
    [
        "weights.bin",
        "elsewhere",
        "image_encoder.onnx.data",
        "manifest.json.bak",
        "sub/",
        "README.md.exe",
    ],
)
def test_a_file_that_no_hash_covers_is_refused(tmp_path: Path, name: str) -> None:
    folder = hostile.copied(tmp_path / "b")
    if name.endswith("/"):
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes(b"x")
    assert name.rstrip("/") in refused(folder)


@pytest.mark.parametrize(
    "name", [".DS_Store", ".gitattributes", ".cache/", "README.md", "LICENSE", "Thumbs.db"]
)
def test_what_systems_hubs_and_people_leave_may_lie_beside(tmp_path: Path, name: str) -> None:
    folder = hostile.copied(tmp_path / "b")
    if name.endswith("/"):
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes(b"x")
    assert mismatch.load(folder, "cpu", threads=1).score.kind == "probability"


def test_a_readme_that_has_a_hash_must_have_it(tmp_path: Path) -> None:
    folder = hostile.with_file(hostile.copied(tmp_path / "b"), "README.md", b"a model")
    mismatch.load(folder, "cpu", threads=1)
    (folder / "README.md").write_bytes(b"another model")
    assert "README.md differs" in refused(folder)


def test_a_bundle_of_links_to_files_is_one(tmp_path: Path) -> None:
    """As hubs keep what they have loaded."""
    folder = tmp_path / "b"
    folder.mkdir()
    for path in BUNDLE.iterdir():
        (folder / path.name).symlink_to(path)
    assert mismatch.load(folder, "cpu", threads=1).score.kind == "probability"


def test_memory_that_runs_out_is_no_fault_of_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = sessions.open_bundle(hostile.copied(tmp_path / "b"), provider="cpu", threads=1)

    def fail(*_: Any) -> None:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 12")

    monkeypatch.setattr(engine._head, "_run", fail)
    with pytest.raises(mismatch.MismatchError, match="not enough memory"):
        engine.logits(
            np.zeros((1, hostile.IMAGE), np.float32), np.zeros((1, hostile.TEXT), np.float32)
        )


def test_the_time_limit_is_that_of_the_graphs_size() -> None:
    assert onnx_graph.seconds_for(onnx_graph.TRYING, 0) <= 20
    assert onnx_graph.seconds_for(onnx_graph.TRYING, 2**31) > 100
    assert time_limit.GRACE < 10
