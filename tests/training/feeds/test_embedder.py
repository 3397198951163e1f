"""What embeds rows for new heads: backbones, checkpoints and bundles alike, each image and text
once, bad rows with their reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mismatch.data.pairs import Row
from mismatch.errors import CheckpointError, InputError
from mismatch.training.checkpoint import load_detector, save_checkpoint
from mismatch.training.feeds import embedder as module
from mismatch.training.feeds.embedder import Embedder, open_embedder

pytestmark = pytest.mark.usefixtures("one_thread")
PAIRS = [
    ("red.png", "red shirt", 1),
    ("blue.png", "red shirt", 0),
    ("red.png", "blue bag", 0),
    ("./red.png", "green shoe", 1),
]
BAD = [("cut.jpg", "red", 1), ("absent.png", "red", 0), ("red.png", "   ", 1)]


def rows(pairs: Sequence[tuple[str, str, int]]) -> list[Row]:
    problems = ("the text is empty" if not text.strip() else None for _, text, _ in pairs)
    return [
        Row(line, *pair, {}, problem)
        for line, (pair, problem) in enumerate(zip(pairs, problems, strict=True), start=2)
    ]


@pytest.fixture
def engine(colour_engine: Any) -> Embedder:
    """The numpy engine of mean colours."""
    spec = open_embedder("openclip:tiny").head
    return Embedder(
        colour_engine(),
        replace(spec, image_dim=3, text_dim=3, image_features=(), text_features=()),
        "",
    )


def test_rows_become_embeddings_of_their_unique_images_and_texts(
    engine: Embedder, colour_images: Path, tmp_path: Path
) -> None:
    found = engine.embed("rows.csv", rows(PAIRS), str(colour_images), tmp_path / "cache")
    assert found.problems == {}
    assert found.rows.tolist() == [0, 1, 2, 3]
    assert found.pairs.image_of.tolist() == [0, 1, 0, 0]
    assert found.pairs.text_of.tolist() == [0, 0, 1, 2]
    assert found.pairs.labels.tolist() == [1, 0, 0, 1]
    assert found.images.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert found.texts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_bad_rows_are_left_out_with_their_reasons(
    engine: Embedder, colour_images: Path, tmp_path: Path
) -> None:
    found = engine.embed("rows.csv", rows([*BAD, *PAIRS]), str(colour_images), tmp_path / "cache")
    assert sorted(found.problems) == [0, 1, 2]
    assert "cut.jpg" in found.problems[0]
    assert "not found" in found.problems[1]
    assert found.problems[2] == "the text is empty"
    assert found.rows.tolist() == [3, 4, 5, 6]
    assert found.images.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert found.pairs.texts == ["red shirt", "blue bag", "green shoe"]
    assert found.texts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_no_good_row_is_an_error(engine: Embedder, colour_images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not one of its 3 rows"):
        engine.embed("rows.csv", rows(BAD), str(colour_images), tmp_path / "cache")


def test_the_cache_spares_the_towers(engine: Embedder, colour_images: Path, tmp_path: Path) -> None:
    first = engine.embed("rows.csv", rows(PAIRS), str(colour_images), tmp_path / "cache")
    before = list(engine.engine.image_batches)  # type: ignore[attr-defined]
    again = engine.embed("rows.csv", rows(PAIRS), str(colour_images), tmp_path / "cache")
    assert engine.engine.image_batches == before  # type: ignore[attr-defined]
    assert (first.images == again.images).all()
    assert (first.pieces == again.pieces).all()


def test_a_long_text_is_the_mean_of_its_pieces(
    colour_engine: Any, colour_images: Path, tmp_path: Path
) -> None:
    chunked = colour_engine()
    chunked.score = replace(chunked.score, long_text="chunk")
    long = "red shirt. red shoe. blue bag. blue shirt."
    spec = open_embedder("openclip:tiny").head
    found = Embedder(chunked, spec, "").embed(
        "rows.csv", rows([("red.png", long, 1), *PAIRS]), str(colour_images), tmp_path / "cache"
    )
    assert np.diff(found.pairs.starts).tolist()[0] > 1
    own = found.pieces[found.pairs.piece_of[: found.pairs.starts[1]]]
    assert found.texts[0] == pytest.approx(own.mean(0))
    assert found.texts[1].tolist() == [1, 0, 0]


def test_a_backbone_gets_a_new_head_with_all_its_features(family: str) -> None:
    opened = open_embedder(f"{family}:tiny", threads=1)
    assert (opened.head.kind, opened.head.members, opened.head.normalisation) == (
        "adapter",
        3,
        "standard",
    )
    # what these offer
    assert (opened.head.image_features, opened.head.text_features) == (("colour",), ())
    assert (opened.engine.image_width, opened.engine.text_width) == (
        opened.head.image_width,
        opened.head.text_width,
    )
    assert opened.note == ""


def test_a_checkpoint_and_its_bundle_are_the_same_towers(
    family: str,
    tiny_checkpoints: dict[str, Path],
    tiny_bundles: dict[str, Path],
    colour_images: Path,
    tmp_path: Path,
) -> None:
    torch, onnx = (
        open_embedder(str(folders[family])) for folders in (tiny_checkpoints, tiny_bundles)
    )
    ours, theirs = (
        opened.embed("rows.csv", rows(PAIRS), str(colour_images), tmp_path / "cache")
        for opened in (torch, onnx)
    )
    dim = onnx.head.image_dim
    assert ours.images[:, :dim] == pytest.approx(theirs.images[:, :dim], abs=1e-4)
    assert (onnx.head.kind, onnx.head.members) == ("adapter", 3)
    assert onnx.head.image_width == theirs.images.shape[1]
    assert "doesn't say whether its towers were fine-tuned" in onnx.note


@pytest.mark.parametrize(
    ("tune", "said"),
    [
        ("head", ""),
        ("full", "was trained by `tune='full'`"),
        ("lora", "was trained by `tune='lora'`"),
    ],
)
def test_towers_that_may_remember_labels_are_told_of(
    tiny_checkpoints: dict[str, Path], tmp_path: Path, tune: str, said: str
) -> None:
    detector, meta = load_detector(tiny_checkpoints["openclip"])
    save_checkpoint(tmp_path / "model", detector, replace(meta, train={"tune": tune}), {})
    note = open_embedder(str(tmp_path / "model")).note
    assert said in note
    assert bool(note) == ("openclip:tiny does not" in note)


def test_an_unknown_model_is_refused_as_everywhere(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no installed backbone is called that"):
        open_embedder("nothing-of-the-kind")
    with pytest.raises(CheckpointError):
        open_embedder(str(tmp_path))


def test_batch_size_auto_tries(
    engine: Embedder, colour_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "choose_batch_size", lambda _engine: 1)
    engine.embed("rows.csv", rows(PAIRS), str(colour_images), tmp_path / "cache", batch_size="auto")
    assert engine.engine.image_batches == [1, 1]  # type: ignore[attr-defined]
