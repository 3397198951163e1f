"""`mismatch export-onnx`: the command."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import mismatch
from mismatch.errors import CheckpointError, InputError
from mismatch.jobs.export_onnx import labelled_rows, pairs_of
from mismatch.jobs.options import RowSettings, open_rows
from mismatch.runtime.bundle import read_bundle
from mismatch.specs import ScoreSpec, SliceThresholds
from mismatch.training.checkpoint import read_meta, write_meta
from tests.support import commands

run = partial(commands.run, "export-onnx")


def test_it_verifies_on_real_rows_and_says_so(
    tiny_checkpoints: dict[str, Path], colour_images: Path, write_rows: Any, tmp_path: Path
) -> None:
    rows = write_rows(
        tmp_path / "rows.csv",
        [
            ("image_path", "text"),
            ("red.png", "red shirt. " * 60),
            ("blue.png", "a blue bag"),
            ("absent.png", "red"),
        ],
    )
    model = shutil.copytree(tiny_checkpoints["openclip"], tmp_path / "model")
    meta = read_meta(model)
    write_meta(model, replace(meta, score=replace(meta.score, long_text="chunk")))
    result = run(
        "--model",
        model,
        "--output",
        tmp_path / "bundle",
        "--verify_csv",
        rows,
        "--image_base_path",
        colour_images,
    )
    assert result.exit_code == 0, result.output
    assert "rows.csv: 2 pairs: scores differ by at most" in result.stdout
    assert "0 decisions flipped" in result.stdout
    assert "1 rows could be scored by neither" in result.stdout
    assert (
        "1 text was longer than the backbone's 77 tokens and was scored in pieces, the worst of"
        " which decides" in result.stdout
    )
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "- Pairs: 2, of `rows.csv`" in card
    assert f"- Threshold: {meta.score.threshold_in_use:.4f}, chosen for best accuracy" in card
    assert "README.md" not in read_bundle(tmp_path / "bundle").files
    size = sum(path.stat().st_size for path in (tmp_path / "bundle").iterdir())
    assert f"bundle of {size / 1e6:.1f} MB" in result.stdout
    parity = json.loads((tmp_path / "bundle" / "parity.json").read_text(encoding="utf-8"))
    assert (parity["long_texts"], parity["context_length"], parity["long_text"]) == (1, 77, "chunk")
    assert read_bundle(tmp_path / "bundle").score == read_meta(model).score


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--model", "BUNDLE"], "is a bundle already"),
        (["--model", "nowhere"], "nowhere"),
        (["--model", "CHECKPOINT", "--verify-csv", "absent.csv"], "absent.csv"),
        (["--model", "CHECKPOINT", "--precision", "int3"], "int3"),
    ],
)
def test_what_it_refuses(
    tiny_checkpoints: dict[str, Path],
    tiny_bundles: dict[str, Path],
    tmp_path: Path,
    args: list[str],
    words: str,
) -> None:
    names = {"BUNDLE": tiny_bundles["openclip"], "CHECKPOINT": tiny_checkpoints["openclip"]}
    result = run(*(names.get(arg, arg) for arg in args), "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "out").exists()


def test_rows_to_verify_are_read_as_the_options_say(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text(
        "photo\ttext\tlabel\na.png;b.png\tred\tyes\na.png;b.png\tblue\tno\nc.png\tred\tno\n../d.png\tred\tyes\n"
    )
    settings = RowSettings(
        image_base_path="base", image_column="photo", label_map="yes/no", multi_image="all"
    )
    with open_rows(path, settings) as source:
        read = labelled_rows(source, 4)
        score = ScoreSpec("probability", 0.5, slices=SliceThresholds("text", {"red": 0.1}, {}))
        pairs = pairs_of(read, source, score)
    labels = [row.label for row in read]
    assert [pair.slice_value for pair in pairs] == ["red", "red", "blue", "blue", "red", "red"]
    assert [str(pair.image) for pair in pairs[:5]] == [
        "base/a.png",
        "base/b.png",
        "base/a.png",
        "base/b.png",
        "base/c.png",
    ]
    assert labels == [1, 1, None, None, 0, 1]
    assert [pair.problem for pair in pairs[:5]] == [None] * 5
    assert "leaves the image base path base" in (pairs[5].problem or "")


@pytest.mark.parametrize("label", ["zz", "True", "1.5"])
def test_a_label_to_verify_with_that_can_not_be_read_is_refused(tmp_path: Path, label: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"image_path,text,label\na.png,red,1\nb.png,red,\nc.png,red,{label}\n")
    with open_rows(path, RowSettings()) as source:
        assert [row.label for row in labelled_rows(source, 2)] == [1, None]
        with pytest.raises(InputError, match=r"rows\.csv:4: label '"):
            labelled_rows(source, 3)


def test_a_bundle_becomes_a_repository_for_triton(
    tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    result = run("--model", tiny_bundles["openclip"], "--triton", tmp_path / "repository")
    assert result.exit_code == 0, result.output
    assert f"for Triton written to {tmp_path / 'repository'}; its scores differ by" in result.stdout
    assert (
        f"tritonserver --model-repository {tmp_path / 'repository'}   (on GPUs: --model-config-name"
        " gpu)" in result.stdout
    )
    assert {path.name for path in (tmp_path / "repository").iterdir()} == {
        "mismatch",
        "mismatch_head",
        "mismatch_image_encoder",
        "mismatch_text_encoder",
    }


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            ["--model", "BUNDLE", "--triton", "new", "--output", "out"],
            "give the trained model's folder, or --triton without --output",
        ),
        (
            ["--model", "BUNDLE", "--triton", "new", "--precision", "fp16"],
            "--precision is for an export",
        ),
        (["--model", "CHECKPOINT", "--triton", "new"], "--output is missing"),
        (
            ["--model", "CHECKPOINT", "--triton", "taken", "--output", "out"],
            "taken exists and is not a repository that mismatch wrote",
        ),
        (["--model", "CHECKPOINT", "--triton", "out/new", "--output", "out"], "lies in the bundle"),
    ],
)
def test_what_it_refuses_for_triton(
    tiny_checkpoints: dict[str, Path],
    tiny_bundles: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    words: str,
) -> None:
    """Before anything is written or loaded."""
    (tmp_path / "taken" / "photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    names = {"BUNDLE": tiny_bundles["openclip"], "CHECKPOINT": tiny_checkpoints["openclip"]}
    result = run(*(names.get(arg, arg) for arg in args))
    assert result.exit_code == 2
    assert words in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"taken"}


def test_from_python_on_rows_in_memory(
    tiny_checkpoints: dict[str, Path],
    colour_images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows: list[dict[str, Any]] = [
        {"image": (colour_images / f"{name}.png").read_bytes(), "text": f"{name} shirt"}
        for name in ("red", "blue")
    ]
    result = mismatch.export_onnx(
        tiny_checkpoints["openclip"], tmp_path / "bundle", verify_rows=rows, triton=tmp_path / "t"
    )
    assert isinstance(result, mismatch.ExportResult)
    assert result.path == tmp_path / "bundle"
    assert result.parity is not None
    assert (result.precision, result.parity.pairs, result.parity.source) == ("fp32", 2, "list")
    assert isinstance(result.triton, mismatch.TritonRepository)
    assert result.triton.score_difference < 1e-4
    assert json.loads(json.dumps(result.to_dict()))["bytes"] == result.bytes
    assert mismatch.load(result.path).predict(rows[0]["image"], "red").status == "ok"
    again = mismatch.export_onnx(result.path, triton=tmp_path / "again")
    assert (again.parity, again.bytes) == (None, result.bytes)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "`output` is missing"),
        ({"output": "new", "precision": "int8"}, "`precision='int8'` needs `verify_rows`"),
        ({"output": "new", "image_base": "x"}, "did you mean 'image_base_path'"),
    ],
)
def test_what_it_refuses_from_python(
    tiny_checkpoints: dict[str, Path], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        mismatch.export_onnx(tiny_checkpoints["openclip"], **options)


def test_a_bundle_with_its_card_is_replaced_and_a_readers_page_is_not(
    tiny_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    mismatch.export_onnx(tiny_checkpoints["openclip"], bundle)
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    assert "README.md" in before
    mismatch.export_onnx(mismatch.load(tiny_checkpoints["openclip"], "cpu"), bundle)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    (bundle / "README.md").write_text("mine")
    with pytest.raises(CheckpointError, match=r"with other files in it \(README\.md\)"):
        mismatch.export_onnx(tiny_checkpoints["openclip"], bundle)
    assert (bundle / "README.md").read_text() == "mine"
    assert mismatch.load(bundle, "cpu").threshold
