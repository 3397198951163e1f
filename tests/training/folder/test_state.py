"""A training state: what goes into a checkpoint comes out as it was, and what is damaged or of
something else is refused.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mismatch.errors import CheckpointError
from mismatch.io.atomic import sealed
from mismatch.training.folder.state import (
    Note,
    Position,
    Weights,
    drop_state,
    load_parts,
    read_note,
    states_of,
    write_state,
)

NOTE = Note(2, 5, {"epochs": 3}, "rows", 16, "frozen", None, False, "cpu in fp32", 1)


def model() -> Any:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    module[0].requires_grad_(False)
    return module


def parts() -> dict[str, Any]:
    position = Position(3, 7, 112, 1.5, torch.tensor([0.1, float("nan")]))
    return {"position": position, "weights": Weights(model())}


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    first, second = parts(), parts()
    second["position"] = Position()
    write_state(tmp_path, NOTE, states_of(first))
    load_parts(tmp_path, second)
    note = read_note(tmp_path)
    assert note is not None
    assert (note.place, note.rows_per_step, note.saved > 10**18) == (
        "in epoch 2 of 3, 5 steps done",
        16,
        True,
    )
    at = second["position"]
    assert (at.epoch, at.step, at.rows, at.seconds, at.sums[0].item()) == (
        3,
        7,
        112,
        1.5,
        pytest.approx(0.1),
    )
    own = second["weights"].detector.state_dict()
    assert all(
        torch.equal(own[name], tensor) for name, tensor in first["weights"].state_dict().items()
    )
    assert not torch.equal(own["0.weight"], first["weights"].detector.state_dict()["0.weight"]), (
        "frozen, so not in it"
    )
    assert {"1.running_mean", "2.bias"} < first["weights"].state_dict().keys()


def test_the_next_epoch_begins_at_nothing() -> None:
    at = parts()["position"]
    at.next_epoch()
    assert (at.epoch, at.step, at.rows, at.seconds, at.sums.tolist()) == (4, 0, 0, 0.0, [0.0, 0.0])


def edit(**changes: Any) -> Callable[[Path], Any]:
    return lambda folder: (folder / "training_state.json").write_text(
        json.dumps(sealed(json.loads((folder / "training_state.json").read_text()) | changes))
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit(format_version=9), "format_version 9, this mismatch reads 1; upgrade"),
        (edit(novelty=1), "is incomplete or damaged"),
        (lambda folder: (folder / "training_state.json").write_text("{"), "is not valid JSON"),
    ],
    ids=["newer", "unknown", "cut"],
)
def test_a_note_that_cant_be_read_is_named(
    tmp_path: Path, damage: Callable[[Path], Any], message: str
) -> None:
    write_state(tmp_path, NOTE, states_of(parts()))
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=rf"training_state.json.*{message}"):
        read_note(tmp_path)


def test_a_state_that_is_damaged_or_of_other_parts_is_refused(tmp_path: Path) -> None:
    write_state(tmp_path, NOTE, states_of(parts()))
    with pytest.raises(
        CheckpointError,
        match=(
            r"training_state.pt can't be resumed from: it has position, weights; position are"
            r" needed; train again"
        ),
    ):
        load_parts(tmp_path, {"position": Position()})
    other: Any = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(
        CheckpointError,
        match=r"the weights 0\.bias, 0\.weight, 1\.bias are not those of this model",
    ):
        load_parts(tmp_path, {"position": Position(), "weights": Weights(other)})
    (tmp_path / "training_state.pt").write_bytes(
        (tmp_path / "training_state.pt").read_bytes()[:900]
    )
    with pytest.raises(CheckpointError, match="can't be resumed from"):
        load_parts(tmp_path, parts())


def test_one_wrong_bit_is_noticed_in_both_files_and_an_older_state_has_no_checksums(
    tmp_path: Path,
) -> None:
    write_state(tmp_path, NOTE, states_of(parts()))
    whole = {
        name: (tmp_path / name).read_bytes()
        for name in ("training_state.pt", "training_state.json")
    }
    for name in whole:
        for at in (len(whole[name]) // 2, len(whole[name]) - 3):
            (tmp_path / name).write_bytes(
                whole[name][:at] + bytes([whole[name][at] ^ 1]) + whole[name][at + 1 :]
            )
            read = (
                partial(load_parts, tmp_path, parts())
                if name.endswith(".pt")
                else partial(read_note, tmp_path)
            )
            with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
                read()
        (tmp_path / name).write_bytes(whole[name])
    data = json.loads(whole["training_state.json"])
    (tmp_path / "training_state.json").write_text(
        json.dumps(
            {name: value for name, value in data.items() if name not in ("checksum", "sha256")}
        )
    )
    load_parts(tmp_path, parts())
    note = read_note(tmp_path)
    assert note is not None
    assert note.place == "in epoch 2 of 3, 5 steps done"


def test_a_state_counts_as_newer_than_the_one_before_whatever_the_clock_says(
    tmp_path: Path,
) -> None:
    write_state(tmp_path, replace(NOTE, saved=2 * time.time_ns()), states_of(parts()))
    note = read_note(tmp_path)
    assert note is not None
    assert note.saved > time.time_ns()


def test_without_both_files_there_is_no_state(tmp_path: Path) -> None:
    assert read_note(tmp_path) is None
    write_state(tmp_path, NOTE, states_of(parts()))
    (tmp_path / "training_state.pt").unlink()
    assert read_note(tmp_path) is None
    drop_state(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
def test_a_full_disk_is_the_systems_own_error(tmp_path: Path) -> None:
    (tmp_path / "training_state.pt").symlink_to("/dev/full")
    with pytest.raises(OSError, match=os.strerror(28)):
        write_state(tmp_path, NOTE, states_of(parts()))
