"""What a run starts from: a backbone or a checkpoint, checked rows, and embeddings that are made
once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mismatch.errors import (
    BackboneError,
    CheckpointError,
    ImageError,
    ImageNotFoundError,
    InputError,
    LabelError,
)
from mismatch.runtime import long_text as chunks
from mismatch.runtime import tokenize
from mismatch.runtime.predictor import Predictor
from mismatch.training.callbacks import Callback, TrainWarning, heard_by
from mismatch.training.checkpoint import load_detector, save_checkpoint
from mismatch.training.config import TrainConfig
from mismatch.training.distributed.processes import Processes
from mismatch.training.engine import open_checkpoint
from mismatch.training.feeds.feeds import EmbeddingFeed
from mismatch.training.feeds.prepare import (
    cut_long_texts,
    default_cache,
    load_sets,
    load_start,
    make_feeds,
)
from tests.support.rows import WriteRows
from tests.support.teams import in_team

HEADER = ("image_path", "text", "label")


@pytest.mark.parametrize(
    "options",
    [
        lambda ck: {"model_name": str(ck)},
        lambda ck: {"backbone": str(ck)},
        lambda ck: {"backbone": "hf-clip", "model_name": str(ck)},
    ],
    ids=["model-name", "backbone", "both"],
)
def test_a_checkpoint_restores_family_and_head(
    tiny_checkpoints: dict[str, Path], family: str, options: Callable[[Path], dict[str, str]]
) -> None:
    folder = tiny_checkpoints[family]
    start = load_start(TrainConfig(train_csv="t.csv", **options(folder)))  # type: ignore[arg-type]
    expected = load_detector(folder)[0].state_dict()
    assert (start.family, start.model_id, start.checkpoint) == (family, "tiny", folder)
    assert start.detector.head.spec.kind == "adapter"  # the checkpoint's
    assert all(
        torch.equal(value, expected[name]) for name, value in start.detector.state_dict().items()
    )


def test_a_plain_directory_of_upstream_loads_through_its_family(
    logged: list[str], tiny_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    load_detector(tiny_checkpoints["hf-clip"])[0].backbone.save_pretrained(tmp_path)
    (tmp_path / "classification_head.pt").write_bytes(b"")
    start = load_start(TrainConfig(train_csv="t.csv", model_name=str(tmp_path), head="cosine"))
    unread = "is damaged or holds more than tensors, so nothing of it was read or run"
    assert logged == [
        (
            f"warning: {tmp_path}/classification_head.pt {unread}; the backbone is loaded and a new"
            " head is trained"
        )
    ]
    assert (start.family, start.model_id, start.checkpoint) == ("hf-clip", str(tmp_path), None)
    assert start.detector.head.spec.kind == "cosine"


def test_head_options_shape_a_fresh_head() -> None:
    start = load_start(
        TrainConfig(train_csv="t.csv", model_name="tiny", head_dim=40, head_hidden=24, dropout=0.3)
    )
    spec = start.detector.head.spec
    assert (spec.common_dim, spec.hidden_dim, spec.dropout) == (40, 24, 0.3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"head": "cosine"}, "`head` is cosine, but the head of .* has adapter"),
        ({"dropout": 0.7}, "`dropout` is 0.7"),
        ({"head_dim": 7}, "`head_dim` is 7"),
    ],
    ids=["kind", "dropout", "width"],
)
def test_another_head_than_the_checkpoints_is_refused_and_not_ignored(
    tiny_checkpoints: dict[str, Path], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        load_start(
            TrainConfig(train_csv="t.csv", model_name=str(tiny_checkpoints["openclip"]), **options)
        )


def test_a_checkpoint_and_another_model_are_refused(tiny_checkpoints: dict[str, Path]) -> None:
    with pytest.raises(BackboneError, match="leave one of them out"):
        load_start(
            TrainConfig(
                train_csv="t.csv",
                backbone=str(tiny_checkpoints["openclip"]),
                model_name="openai/other",
            )
        )


def test_two_checkpoints_are_refused(tiny_checkpoints: dict[str, Path]) -> None:
    options = {
        "backbone": str(tiny_checkpoints["openclip"]),
        "model_name": str(tiny_checkpoints["hf-clip"]),
    }
    with pytest.raises(BackboneError, match="leave one of them out"):
        load_start(TrainConfig(train_csv="t.csv", **options))  # type: ignore[arg-type]


def test_validation_rows_of_one_label_are_reported(
    logged: list[str], write_rows: WriteRows, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "t.csv", [HEADER, ("a.png", "red", 1), ("b.png", "blue", 0)])
    val = write_rows(tmp_path / "v.csv", [HEADER, ("c.png", "red", 0)])
    load_sets(TrainConfig(train_csv=str(rows), val_csv=str(val)))
    assert logged == [
        (
            "warning: every validation label is 0, so no calibration and no threshold is stored, and"
            " there is no AUROC"
        )
    ]


def test_images_to_validate_on_that_are_trained_on_are_counted(
    logged: list[str], write_rows: WriteRows, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "t.csv", [HEADER, ("a.png", "red", 1), ("b.png", "blue", 0)])
    shared = [("./a.png", "red", 1), ("a.png", "blue", 0), (f"{tmp_path}/b.png", "blue", 0)]
    val = write_rows(tmp_path / "v.csv", [HEADER, *shared, ("c.png", "red", 1)])
    config = TrainConfig(
        train_csv=str(rows),
        val_csv=str(val),
        image_base_path=str(tmp_path),
        allow_outside_images=True,
    )
    load_sets(config)
    [line] = logged
    assert all(fact in line for fact in ("v.csv", "t.csv", "2 images", "2 rows"))
    apart = write_rows(tmp_path / "w.csv", [HEADER, ("c.png", "red", 1), ("d.png", "blue", 0)])
    logged.clear()
    load_sets(replace(config, val_csv=str(apart)))
    assert logged == []


def test_holding_out_the_only_image_with_a_label_is_refused(
    write_rows: WriteRows, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "t.csv", [HEADER, ("a.png", "red", 1), ("b.png", "blue", 0)])
    with pytest.raises(
        InputError,
        match=(
            r"t\.csv without the images held out .*: every label is [01], so there is nothing to"
            r" tell apart"
        ),
    ):
        load_sets(TrainConfig(train_csv=str(rows)))


LONG = [
    ("a.png", "red " * 76, 1),
    ("b.png", "red " * 75, 0),
    ("c.png", "red " * 76, 0),
    ("d.png", "blue " * 90 + "red", 1),
]


@pytest.mark.parametrize(
    ("long_text", "line", "pieces"),
    [
        (
            None,
            (
                "warning: 2 texts are longer than the backbone's 77 tokens and are scored without"
                " their end; --long-text chunk scores them piece by piece"
            ),
            [1, 1, 1],
        ),
        (
            "chunk",
            (
                "2 texts are longer than the backbone's 77 tokens and are scored in pieces, the"
                " worst of which decides"
            ),
            [2, 1, 2],
        ),
        (
            "chunk-mean",
            (
                "2 texts are longer than the backbone's 77 tokens and are scored in pieces, whose"
                " mean decides"
            ),
            [2, 1, 2],
        ),
    ],
)
def test_long_texts_are_counted_and_cut_where_that_is_asked_for(
    logged: list[str],
    tiny_checkpoints: dict[str, Path],
    write_rows: WriteRows,
    tmp_path: Path,
    long_text: Any,
    line: str,
    pieces: list[int],
) -> None:
    rows = write_rows(tmp_path / "t.csv", [HEADER, *LONG])
    config = TrainConfig(
        train_csv=str(rows),
        val_fraction=0.0,
        model_name=str(tiny_checkpoints["hf-clip"]),
        long_text=long_text,
    )
    start = load_start(config)
    train, _ = load_sets(config)
    [cut, same], count = cut_long_texts(start, [train, train])
    assert (logged[1:], count) == ([line], 2)
    assert np.diff(cut.starts).tolist() == pieces == np.diff(same.starts).tolist()
    assert (cut.texts, cut.text_of.tolist()) == (train.texts, train.text_of.tolist())
    for text, first, last in zip(cut.texts, cut.starts, cut.starts[1:], strict=False):
        assert " ".join(cut.pieces[i] for i in cut.piece_of[first:last]).split() == text.split()


@pytest.mark.parametrize(
    ("texts", "warned"),
    [
        (["قميص أحمر للرجال", "красная хлопковая рубашка"], True),
        (["一件红色的衬衫", "赤いドレスの女性"], True),
        (["une chemise rouge d'été", "ein Kleid für große Mädchen"], False),
    ],
)
def test_texts_in_a_language_that_the_backbone_cannot_read_are_warned_of_once(
    tiny_checkpoints: dict[str, Path],
    write_rows: WriteRows,
    tmp_path: Path,
    texts: list[str],
    warned: bool,
) -> None:
    heard = list[TrainWarning]()

    class Listener(Callback):
        def on_warning(self, warning: TrainWarning) -> None:
            heard.append(warning)

    rows = [("a.png", text, number % 2) for number, text in enumerate(texts)]
    config = TrainConfig(
        train_csv=str(write_rows(tmp_path / "t.csv", [HEADER, *rows])),
        val_fraction=0.0,
        model_name=str(tiny_checkpoints["openclip"]),
    )
    train, _ = load_sets(config)
    with heard_by([Listener()]):
        cut_long_texts(load_start(config), [train, train])
    assert [warning.kind for warning in heard] == ["language"] * warned
    assert all("2 texts" in warning.message for warning in heard)


@pytest.mark.parametrize("long_text", ["truncate", "chunk"])
def test_a_text_of_which_cleaning_leaves_nothing_is_named_with_its_file(
    tiny_checkpoints: dict[str, Path], write_rows: WriteRows, tmp_path: Path, long_text: Any
) -> None:
    rows = write_rows(tmp_path / "t.csv", [HEADER, ("a.png", "&nbsp;", 0), ("b.png", "red", 1)])
    config = TrainConfig(
        train_csv=str(rows),
        val_fraction=0.0,
        model_name=str(tiny_checkpoints["openclip"]),
        backbone="openclip",
        long_text=long_text,
    )
    train, _ = load_sets(config)
    with pytest.raises(InputError, match=r"t\.csv: text '&nbsp;': the text is empty"):
        cut_long_texts(load_start(config), [train])


@pytest.mark.parametrize("long_text", ["truncate", "chunk"])
@pytest.mark.parametrize("step", ["clean", "split"])
def test_a_text_that_cannot_be_used_is_named_with_its_file(
    tiny_checkpoints: dict[str, Path],
    write_rows: WriteRows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    long_text: Any,
    step: str,
) -> None:
    def fail(text: str, *more: object) -> str:
        if "word" in text:
            raise ValueError("a bug")
        return text

    (
        monkeypatch.setitem(tokenize._CLEANERS, "clip", fail)
        if step == "clean"
        else monkeypatch.setattr(chunks, "split_long_text", fail)
    )
    rows = write_rows(
        tmp_path / "t.csv", [HEADER, ("a.png", "word " * 200, 0), ("b.png", "red", 1)]
    )
    config = TrainConfig(
        train_csv=str(rows),
        val_fraction=0.0,
        model_name=str(tiny_checkpoints["openclip"]),
        backbone="openclip",
        long_text=long_text,
    )
    train, _ = load_sets(config)
    start = load_start(config)
    if (long_text, step) == ("truncate", "split"):
        assert cut_long_texts(start, [train])[1] == 1
        return
    with pytest.raises(InputError, match=r"t\.csv: text 'word word .*…'"):
        cut_long_texts(start, [train])


@pytest.mark.parametrize(
    ("option", "expected"), [(None, "chunk-mean"), ("truncate", "truncate"), ("chunk", "chunk")]
)
def test_a_checkpoint_keeps_what_it_does_with_long_texts_unless_told_otherwise(
    tiny_checkpoints: dict[str, Path], tmp_path: Path, option: Any, expected: str
) -> None:
    detector, meta = load_detector(tiny_checkpoints["openclip"])
    save_checkpoint(
        tmp_path / "ck",
        detector,
        replace(meta, score=replace(meta.score, long_text="chunk-mean")),
        {},
    )
    assert (
        load_start(
            TrainConfig(train_csv="t.csv", model_name=str(tmp_path / "ck"), long_text=option)
        ).long_text
        == expected
    )
    assert load_start(
        TrainConfig(train_csv="t.csv", model_name="tiny", long_text=option)
    ).long_text == (option or "truncate")


def test_rows_of_one_label_teach_nothing(write_rows: WriteRows, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "t.csv", [HEADER, ("a.png", "red", 1), ("b.png", "blue", 1)])
    with pytest.raises(
        InputError, match=r"t\.csv: every label is 1, so there is nothing to tell apart"
    ):
        load_sets(TrainConfig(train_csv=str(rows)))


def test_another_family_than_the_checkpoints_is_refused(tiny_checkpoints: dict[str, Path]) -> None:
    with pytest.raises(
        BackboneError,
        match=(
            r"is a checkpoint of hf-clip, but `backbone` asks for openclip; leave one of them out"
        ),
    ):
        load_start(
            TrainConfig(
                train_csv="t.csv", backbone="openclip", model_name=str(tiny_checkpoints["hf-clip"])
            )
        )


def test_the_folder_above_a_checkpoint_is_refused_with_their_names(
    tiny_checkpoints: dict[str, Path],
) -> None:
    with pytest.raises(
        CheckpointError, match="pass one of the checkpoints in it: hf-clip, openclip"
    ):
        load_start(
            TrainConfig(train_csv="t.csv", model_name=str(tiny_checkpoints["hf-clip"].parent))
        )


def rows(images: int) -> list[tuple[str, str, int]]:
    return [
        (f"{name}.png", f"a {text} shirt", int(name == text))
        for name in ("red", "green", "blue")[:images]
        for text in ("red", "green", "blue", "grey")
    ]


def test_without_val_csv_a_tenth_of_the_images_is_held_out_and_said_so(
    logged: list[str], tmp_path: Path, write_rows: WriteRows
) -> None:
    table = [(f"{i}.png", "x", i % 2) for i in range(30)] + [("0.png", "y", 1)]
    train, val = load_sets(
        TrainConfig(train_csv=str(write_rows(tmp_path / "t.csv", [HEADER, *table])))
    )
    assert val is not None
    assert (len(train.images), len(val.images), len(train) + len(val)) == (27, 3, 31)
    assert set(train.images) & set(val.images) == set()
    assert logged == [
        (
            f"3 of 30 images and their {len(val)} rows are held out for validation; --val-csv chooses"
            " others"
        )
    ]


def test_val_fraction_0_trains_on_all_rows_and_says_what_that_costs(
    logged: list[str], tmp_path: Path, write_rows: WriteRows
) -> None:
    train, val = load_sets(
        TrainConfig(
            train_csv=str(write_rows(tmp_path / "t.csv", [HEADER, *rows(3)])), val_fraction=0.0
        ),
    )
    assert (len(train), val) == (12, None)
    assert logged == [
        (
            "no validation rows: best_model is the last epoch's, and no threshold is stored; pass"
            " --val-csv for one"
        )
    ]


@pytest.mark.parametrize(
    ("table", "kind", "message"),
    [
        (
            [HEADER, ("a.png", "x", "1"), ("b.png", "", "0")],
            InputError,
            r"t.csv:3: the text is empty",
        ),
        (
            [HEADER, ("a.png", "x", "yes"), ("b.png", "y", "1.5")],
            LabelError,
            r"t.csv:2: .*label 'yes' is neither 0 nor 1.*t.csv:3: .*label '1.5'",
        ),
        ([("image_path", "label"), ("a.png", "1")], InputError, r"column 'text' is missing"),
    ],
)
def test_bad_rows_are_named_by_file_and_line_and_none_is_skipped(
    tmp_path: Path, write_rows: WriteRows, table: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        load_sets(TrainConfig(train_csv=str(write_rows(tmp_path / "t.csv", table))))


def feeds_for(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> tuple[EmbeddingFeed, list[int]]:
    """The feed of frozen towers, and how many images each call of the image tower saw."""
    start = load_start(config)
    calls: list[int] = []
    train, _ = load_sets(config)
    encode = start.detector.backbone.encode_image

    def encode_image(pixels: torch.Tensor) -> torch.Tensor:
        calls.append(len(pixels))
        return encode(pixels)

    monkeypatch.setattr(start.detector.backbone, "encode_image", encode_image)
    [feed] = make_feeds(config, start, [train], Processes(torch.device("cpu")))
    assert isinstance(feed, EmbeddingFeed)
    return feed, calls


def test_frozen_towers_see_each_image_once_ever_and_agree_with_prediction(
    tiny_checkpoints: dict[str, Path],
    colour_images: Path,
    write_rows: WriteRows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options: dict[str, Any] = {
        "tune": "head",
        "val_fraction": 0.0,
        "model_name": str(tiny_checkpoints["hf-clip"]),
        "cache": str(colour_images / "cache"),
    }
    config = TrainConfig(
        train_csv=str(write_rows(colour_images / "t.csv", [HEADER, *rows(3)])),
        image_base_path=str(colour_images),
        **options,
    )
    feed, calls = feeds_for(config, monkeypatch)
    again, no_calls = feeds_for(config, monkeypatch)
    assert (sum(calls), no_calls) == (3, [])
    assert torch.equal(feed.images, again.images)
    assert torch.equal(feed.pieces, again.pieces)
    predictor = Predictor(open_checkpoint(tiny_checkpoints["hf-clip"], provider="cpu"))
    np.testing.assert_allclose(
        feed.images.numpy(), predictor.encode_images(feed.pairs.images), atol=1e-5
    )
    np.testing.assert_allclose(
        feed.pieces.numpy(), predictor.encode_texts(feed.pairs.texts), atol=1e-5
    )


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        (
            "absent.png",
            ImageNotFoundError,
            r"t.csv:14: image .*absent.png.*t.csv:15: image .*lie.jpg",
        ),
        ("cut.jpg", ImageError, r"t.csv:14: image .*cut.jpg.* damaged or cut short"),
    ],
)
def test_frozen_towers_name_every_bad_image_by_file_and_line(
    tiny_checkpoints: dict[str, Path],
    colour_images: Path,
    write_rows: WriteRows,
    name: str,
    kind: type[Exception],
    message: str,
) -> None:
    table = [HEADER, *rows(3), (name, "red", 1), ("lie.jpg", "red", 1)]
    options: dict[str, Any] = {
        "tune": "head",
        "val_fraction": 0.0,
        "model_name": str(tiny_checkpoints["hf-clip"]),
        "cache": str(colour_images / "cache"),
    }
    config = TrainConfig(
        train_csv=str(write_rows(colour_images / "t.csv", table)),
        image_base_path=str(colour_images),
        **options,
    )
    train, _ = load_sets(config)
    with pytest.raises(kind, match=message):
        make_feeds(config, load_start(config), [train], Processes(torch.device("cpu")))


def test_images_that_several_processes_can_t_embed_are_one_error_in_all(
    tiny_checkpoints: dict[str, Path], colour_images: Path, write_rows: WriteRows
) -> None:
    table = [
        HEADER,
        *rows(3),
        *((f"absent{i}.png", "red", 1) for i in range(11)),
        ("lie.jpg", "red", 1),
    ]
    options: dict[str, Any] = {
        "tune": "head",
        "val_fraction": 0.0,
        "model_name": str(tiny_checkpoints["hf-clip"]),
        "cache": str(colour_images / "cache"),
    }
    config = TrainConfig(
        train_csv=str(write_rows(colour_images / "t.csv", table)),
        image_base_path=str(colour_images),
        **options,
    )
    train, _ = load_sets(config)
    errors = [
        error
        for count in (1, 2)
        for error in in_team(
            count,
            lambda processes: make_feeds(config, load_start(config), [train], processes),
        )
    ]
    assert [type(error) for error in errors] == [ImageNotFoundError] * 3
    assert len({str(error) for error in errors}) == 1
    assert "t.csv:14: image" in str(errors[0])
    assert "t.csv:23: image" in str(errors[0])
    assert "(and 2 more; mismatch validate lists all)" in str(errors[0])


@pytest.mark.parametrize(
    ("platform", "environment", "tail"),
    [
        ("linux", {"XDG_CACHE_HOME": "/somewhere"}, "/somewhere/mismatch"),
        ("linux", {}, ".cache/mismatch"),
        ("darwin", {}, "Library/Caches/mismatch"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/mismatch/Cache"),
    ],
)
def test_default_cache_lies_where_the_platform_keeps_caches(
    platform: str, environment: dict[str, str], tail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert default_cache().as_posix().endswith(tail)


def test_rows_are_read_as_the_options_say(colour_images: Path, write_rows: WriteRows) -> None:
    table = [
        ("photo", "title", "verdict"),
        ("red.png;whole.jpg", "red", "Match"),
        ("green.png", "blue", "mismatch"),
    ]
    options: dict[str, Any] = {
        "image_column": "photo",
        "text_column": "title",
        "label_column": "verdict",
        "label_map": "match/mismatch",
        "val_fraction": 0.0,
    }
    options |= {
        "train_csv": str(write_rows(colour_images / "t.csv", table)),
        "image_base_path": str(colour_images),
    }
    train, _ = load_sets(TrainConfig(**options, multi_image="all"))
    assert [train.images[i].name for i in train.image_of] == ["red.png", "whole.jpg", "green.png"]
    assert (train.labels.tolist(), train.text_of.tolist(), train.lines.tolist()) == (
        [1, 1, 0],
        [0, 0, 1],
        [2, 2, 3],
    )
    with pytest.raises(
        InputError,
        match=r"t.csv:2: label 1 of 2 images does not say which one matches \(rows match by their best image\)",
    ):
        load_sets(TrainConfig(**options, multi_image="best"))
    outside = options | {
        "image_base_path": str(colour_images / "deep"),
        "train_csv": str(write_rows(colour_images / "u.csv", [table[0], ("../a", "b", "match")])),
    }
    with pytest.raises(
        InputError,
        match=r"u.csv:2: image '../a' leaves the image base path .*; allow outside images",
    ):
        load_sets(TrainConfig(**outside))
    with pytest.raises(InputError, match="every label is 1"):
        load_sets(TrainConfig(**outside, allow_outside_images=True))


def test_what_is_recognised_in_rows_is_said_once_a_file(logged: list[str], tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("file;title;label\n1.png;red;1\n2.png;blue;0\n")
    train, _ = load_sets(TrainConfig(train_csv=path, val_fraction=0))
    assert list(train.texts) == ["red", "blue"]
    assert logged[0] == (
        f"{path}: ';' separates its columns; 'file' is read as image_path and 'title' as text"
    )
    assert sum("separates" in line for line in logged) == 1
