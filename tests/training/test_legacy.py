"""Folders of the older layout: scored by their own cosine, trained on, exported; a pickle that
would run something runs nothing.
"""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mismatch
from mismatch.backbones.registry import load_backbone
from mismatch.errors import BackboneError, CheckpointError, InputError, MismatchWarning
from mismatch.training import TrainConfig, train
from mismatch.training.checkpoint import read_meta
from mismatch.training.feeds.embedder import open_embedder
from mismatch.training.legacy import check_not_above, head_line, is_legacy
from tests.support.commands import run
from tests.support.rows import WriteRows

FILES = [
    "classification_head.pt",
    "config.json",
    "preprocessor_config.json",
    "pytorch_model.bin",
    "training_stats.json",
]
STATS = {"train_losses": [0.7, 0.4], "val_losses": [0.6, 0.5]}
HEADS = {
    "one number": nn.Linear(1, 1),
    "joined": nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 2)),
    "prefixed": nn.ModuleDict({"classifier": nn.Linear(256, 1)}),
}


@pytest.fixture(scope="module")
def old_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What such a pipeline's best_model holds: hf-clip's tiny model, its weights moved, without a
    tokenizer.
    """
    folder = tmp_path_factory.mktemp("old") / "best_model"
    backbone: Any = load_backbone("hf-clip:tiny")
    torch.manual_seed(0)
    with torch.no_grad():
        backbone.model.visual_projection.weight.add_(torch.randn(128, 128), alpha=0.05)
    backbone.model.config.save_pretrained(folder)
    backbone.image_processor.save_pretrained(folder)
    torch.save(backbone.model.state_dict(), folder / "pytorch_model.bin")
    torch.save(HEADS["joined"].state_dict(), folder / "classification_head.pt")
    (folder / "training_stats.json").write_text(json.dumps(STATS))
    assert sorted(path.name for path in folder.iterdir()) == FILES
    return folder


@pytest.fixture
def model(old_model: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(old_model, tmp_path / "best_model"))


class Evil:
    """Unpickled, it would create a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return open, (str(self.trace), "w")


def test_prediction_is_the_fine_tuned_backbones_cosine_and_says_so(
    old_model: Path, colour_images: Path
) -> None:
    with pytest.warns(MismatchWarning) as said:
        predictor = mismatch.load(old_model, "cpu")
    head = "0.weight 64×256, 0.bias 64, 3.weight 2×64, 3.bias 2"
    expected = (
        f"{old_model}/classification_head.pt holds {head}, but no file says how they are applied to"
        " the embeddings, so the head is not used; "
    )
    expected += "pairs are scored by the fine-tuned backbone's cosine, a match from 0.25; "
    assert [str(one.message) for one in said] == [
        f"{expected}training with `tune='head'` and `model_name={old_model}` adds a head in minutes"
    ]
    [image], [text] = (
        predictor.encode_images([colour_images / "red.png"]),
        predictor.encode_texts(["a red shirt"]),
    )
    cosine = float(image @ text / np.linalg.norm(image) / np.linalg.norm(text))
    prediction = predictor.predict(colour_images / "red.png", "a red shirt")
    assert prediction.similarity_score == pytest.approx(cosine, abs=1e-6)
    assert (predictor.score.kind, prediction.threshold, prediction.is_match) == (
        "cosine",
        0.25,
        cosine >= 0.25,
    )
    untrained = mismatch.load("hf-clip:tiny", "cpu").encode_images([colour_images / "red.png"])
    assert np.abs(untrained - image).max() > 0.01  # these are the folder's own weights
    assert predictor.engine.image_spec.colour_profile == "ignore", "as that pipeline did"


def test_the_command_line_predicts_and_evaluates(
    old_model: Path, colour_images: Path, write_rows: WriteRows
) -> None:
    result = run(
        "predict",
        "--model",
        old_model,
        "--image",
        colour_images / "red.png",
        "--text",
        "a red shirt",
    )
    assert result.exit_code == 0
    assert result.stderr.startswith(f"mismatch: warning: {old_model}/classification_head.pt holds ")
    rows = write_rows(
        colour_images / "t.csv",
        [
            ("image_path", "text", "label"),
            ("red.png", "a red shirt", 1),
            ("blue.png", "a red shirt", 0),
        ],
    )
    options = [
        "evaluate",
        "--model",
        str(old_model),
        "--csv",
        str(rows),
        "--image-base-path",
        str(colour_images),
        "--json",
    ]
    result = run(*options, env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert json.loads(result.stdout)["rows"] == 2


def test_without_a_head_file_there_is_nothing_to_warn_of(model: Path) -> None:
    (model / "classification_head.pt").unlink()
    assert is_legacy(model)
    assert mismatch.load(model, "cpu").score.kind == "cosine"


@pytest.mark.parametrize(
    ("kind", "tensors"),
    [
        ("one number", "weight 1×1, bias 1"),
        ("prefixed", "classifier.weight 1×256, classifier.bias 1"),
        ("nested", "weight 1×1, bias 1"),
    ],
)
def test_a_head_is_told_by_its_tensors(tmp_path: Path, kind: str, tensors: str) -> None:
    state = (
        {"epoch": 3, "model_state_dict": HEADS["one number"].state_dict()}
        if kind == "nested"
        else HEADS[kind].state_dict()
    )
    torch.save(state, tmp_path / "classification_head.pt")
    unknown = "but no file says how they are applied to the embeddings, so the head is not used"
    assert head_line(tmp_path) == f"{tmp_path}/classification_head.pt holds {tensors}, {unknown}"


def test_of_many_tensors_the_first_are_named_and_no_head_is_no_line(tmp_path: Path) -> None:
    assert head_line(tmp_path) is None
    torch.save(
        {f"layer{i}": torch.zeros(()) for i in range(9)}, tmp_path / "classification_head.pt"
    )
    assert "holds layer0 1, layer1 1, layer2 1, layer3 1, …, but" in str(head_line(tmp_path))
    torch.save([1, 2], tmp_path / "classification_head.pt")
    assert head_line(tmp_path) == f"{tmp_path}/classification_head.pt holds no tensors by name"


@pytest.mark.parametrize(
    "spoil", ["evil", "evil in an old pickle", "a whole module", "cut short", "empty"]
)
def test_a_head_that_would_run_something_or_is_damaged_runs_nothing_and_the_backbone_still_scores(
    model: Path, tmp_path: Path, spoil: str
) -> None:
    file, trace = model / "classification_head.pt", tmp_path / "trace"
    if spoil == "evil":
        torch.save({"weight": Evil(trace)}, file)
    elif spoil == "evil in an old pickle":
        file.write_bytes(pickle.dumps(Evil(trace)))
    elif spoil == "a whole module":
        torch.save(HEADS["one number"], file)
    else:
        file.write_bytes(file.read_bytes()[:300] if spoil == "cut short" else b"")
    assert (
        head_line(model)
        == f"{file} is damaged or holds more than tensors, so nothing of it was read or run"
    )
    assert not trace.exists()


def test_a_spoilt_head_does_not_stop_prediction(model: Path) -> None:
    (model / "classification_head.pt").write_bytes(b"")
    with pytest.warns(
        MismatchWarning,
        match="nothing of it was read or run; pairs are scored by the fine-tuned backbone's cosine",
    ):
        assert mismatch.load(model, "cpu").threshold == 0.25


@pytest.mark.parametrize("spoil", ["evil", "text", "empty", "cut short"])
def test_weights_that_would_run_something_or_are_damaged_are_refused_in_one_line(
    model: Path, tmp_path: Path, spoil: str
) -> None:
    file, trace = model / "pytorch_model.bin", tmp_path / "trace"
    if spoil == "evil":
        torch.save({"logit_scale": Evil(trace)}, file)
    else:
        file.write_bytes(
            {"text": b"not weights", "empty": b"", "cut short": file.read_bytes()[:200_000]}[spoil]
        )
    with pytest.raises(BackboneError) as refused:
        mismatch.load(model, "cpu")
    known = "(it is damaged or holds more than tensors, so nothing of it was run)"
    reason = "(PytorchStreamReader failed reading zip archive" if spoil == "cut short" else known
    assert (
        f"'{model}' is not a whole directory of a transformers model: the weights can't be read"
        f" from it {reason}" in str(refused.value)
    )
    assert "\n" not in str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert not trace.exists()


def test_the_folder_of_a_whole_run_names_the_models_in_it(old_model: Path) -> None:
    message = "is a folder of models; pass one of those in it: best_model"
    with pytest.raises(CheckpointError, match=message):
        mismatch.load(old_model.parent, "cpu")
    with pytest.raises(CheckpointError, match=message):
        check_not_above(old_model.parent)
    check_not_above(old_model)


def test_a_checkpoint_and_a_plain_folder_are_not_taken_for_one(
    tiny_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    assert not is_legacy(tiny_checkpoints["hf-clip"])
    assert not is_legacy(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert not is_legacy(tmp_path)


@pytest.fixture
def rows(colour_images: Path, write_rows: WriteRows) -> dict[str, Any]:
    table = [
        (f"{name}.png", f"a {text} shirt", int(name == text))
        for name in ("red", "green", "blue")
        for text in ("red", "green", "blue")
    ]
    path = write_rows(colour_images / "t.csv", [("image_path", "text", "label"), *table])
    return {
        "train_csv": str(path),
        "val_csv": str(path),
        "image_base_path": str(colour_images),
        "device": "cpu",
        "num_workers": 0,
    }


def test_training_goes_on_from_it_with_a_new_head(
    logged: list[str], old_model: Path, rows: dict[str, Any], tmp_path: Path
) -> None:
    options = rows | {
        "tune": "head",
        "epochs": 2,
        "cache": str(tmp_path / "cache"),
        "output_dir": str(tmp_path / "out"),
        "model_name": str(old_model),
    }
    result = train(TrainConfig(**options))
    assert [
        line
        for line in logged
        if line.endswith(
            "so the head is not used; the backbone is loaded and a new head is trained"
        )
    ]
    meta = read_meta(result.best_model)
    assert (meta.family, meta.model_id, meta.head.kind) == ("hf-clip", str(old_model), "adapter")
    with pytest.warns(MismatchWarning, match="the head is not used"):
        before = mismatch.load(old_model, "cpu").encode_texts(["a red shirt"])
    np.testing.assert_allclose(
        mismatch.load(result.best_model, "cpu").encode_texts(["a red shirt"]), before, atol=1e-5
    )
    assert json.loads((old_model / "training_stats.json").read_text()) == STATS
    assert sorted(path.name for path in old_model.iterdir()) == FILES


def test_training_into_it_is_refused(old_model: Path, rows: dict[str, Any]) -> None:
    message = (
        f"`output_dir` {old_model} is a model of an older pipeline, whose training_stats.json would"
        " be lost; choose another"
    )
    with pytest.raises(InputError, match=message):
        train(
            TrainConfig(**rows, model_name="tiny", output_dir=str(old_model)),
        )


@pytest.mark.slow
def test_it_exports_to_a_bundle_that_scores_alike(
    old_model: Path, colour_images: Path, tmp_path: Path
) -> None:
    result = run("export-onnx", "--model", old_model, "--output", tmp_path / "bundle")
    assert result.exit_code == 0, result.output
    with pytest.warns(MismatchWarning, match="the head is not used"):
        ours = mismatch.load(old_model, "cpu").predict(colour_images / "red.png", "a red shirt")
    theirs = mismatch.load(tmp_path / "bundle", "cpu").predict(
        colour_images / "red.png", "a red shirt"
    )
    assert theirs.similarity_score == pytest.approx(ours.similarity_score, abs=1e-5)
    assert theirs.threshold == 0.25


def test_its_towers_embed_rows_for_new_heads_and_may_remember_labels(old_model: Path) -> None:
    opened = open_embedder(str(old_model))
    assert opened.head.kind == "adapter"
    assert f"{old_model} has been fine-tuned" in opened.note
