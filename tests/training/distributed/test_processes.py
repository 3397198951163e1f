"""Several processes on one run: what they share and sum, and that two of them train what one
trains.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mismatch.errors import DeviceError
from mismatch.training.distributed import processes as module
from mismatch.training.distributed.processes import Processes
from tests.support.launching import (
    FORKED,
    check_curves,
    furthest,
    run_training,
    trained,
    write_training_rows,
)
from tests.support.paths import WHOLE


def alone(count: int = 1, index: int = 0) -> Processes:
    return Processes(torch.device("cpu"), index, count)


@pytest.mark.parametrize(("size", "count"), [(7, 2), (2, 3), (0, 2), (9, 1)])
def test_shares_are_disjoint_even_and_together_everything(size: int, count: int) -> None:
    shares = [alone(count, index).share(size) for index in range(count)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("size", "count"), [(7, 2), (2, 3), (0, 2), (9, 1)])
def test_parts_are_neighbours_and_together_everything_in_order(size: int, count: int) -> None:
    parts = [list(range(size))[alone(count, index).part(size)] for index in range(count)]
    assert [item for part in parts for item in part] == list(range(size))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("size", "count"), [(7, 2), (2, 3), (0, 2), (9, 1), (8, 4)])
def test_even_shares_are_the_shares_and_at_most_one_item_more(size: int, count: int) -> None:
    shares = [
        (alone(count, index).share(size).tolist(), alone(count, index).even_share(size).tolist())
        for index in range(count)
    ]
    assert {len(even) for _, even in shares} == {math.ceil(size / count)}
    assert all(even in (own, [*own, size - 1]) for own, even in shares)


def test_one_process_is_the_main_one_and_needs_nobody() -> None:
    one = Processes.start("cpu")
    assert (one.main, one.index, one.count, one.device.type) == (True, 0, 1, "cpu")
    assert (one.each(lambda: "x"), [array.tolist() for array in one.gather(np.arange(3))]) == (
        ["x"],
        [[0, 1, 2]],
    )
    assert (one.largest(7), one.any(False), one.any(True)) == (7, False, True)
    table = one.assemble(
        3,
        [
            (np.array([2, 0]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])),
            (np.array([1]), torch.tensor([[5.0, 6.0]], dtype=torch.bfloat16)),
        ],
    )
    assert (table.tolist(), table.dtype) == ([[3.0, 4.0], [5.0, 6.0], [1.0, 2.0]], torch.float32)


def test_many_tensors_go_in_few_buckets_of_one_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUCKET", 10)
    sizes = [
        (4, torch.float32),
        (6, torch.float32),
        (1, torch.float32),
        (2, torch.int64),
        (30, torch.int64),
        (3, torch.int64),
    ]
    buckets = module._buckets([torch.zeros(size, dtype=kind) for size, kind in sizes])
    assert [[len(tensor) for tensor in bucket] for bucket in buckets] == [
        [4, 6],
        [1],
        [2],
        [30],
        [3],
    ]


def test_one_device_for_several_processes_is_refused() -> None:
    with pytest.raises(
        DeviceError, match="`device` cuda:1 is one device for several processes; leave it out"
    ):
        module._device_of("cuda:1", 0)
    assert module._device_of("cpu", 1) == "cpu"


def test_each_process_of_a_machine_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [module._device_of(asked, 1) for asked in ("auto", "cuda")] == ["cuda:1", "cuda:1"]


@pytest.fixture(scope="module")
def rows(module_folder: Path) -> Path:
    write_training_rows(module_folder)
    return module_folder


@pytest.mark.slow
def test_bad_rows_end_every_process_with_the_line_that_one_would_say(rows: Path) -> None:
    """One at the file's beginning and one at its end."""
    lines = (rows / "train.csv").read_text().splitlines()
    (rows / "bad.csv").write_text(
        "\n".join([lines[0], "0.png,,1", *lines[1:], "0.png,red,maybe"]) + "\n"
    )
    one, two = (
        run_training(rows, "refused", "--train-csv", rows / "bad.csv", launcher=launcher)
        for launcher in (None, FORKED)
    )
    line = (
        f"error: {rows / 'bad.csv'}:2: the text is empty; {rows / 'bad.csv'}:{len(lines) + 2}:"
        " label 'maybe' is neither 0 nor 1"
    )
    assert (one.returncode, one.stderr.count(line)) == (2, 1)
    assert two.returncode != 0
    assert two.stderr.count(line) == 2
    assert not (rows / "refused").exists()


FULL = ("--tune", "full", "--learning-rate", 1e-4)
OPENCLIP = (*FULL, "--backbone", "openclip", "--gradient-accumulation-steps", 1)
LAUNCHED = [  # the first three each day; two machines have a torchrun each, that meet at a port
    (FORKED, ("--tune", "head")),
    (FORKED, FULL),
    ("accelerate", OPENCLIP),
    ("torchrun", FULL),
    ("two machines", FULL),
]


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "options"), LAUNCHED if WHOLE else LAUNCHED[:3])
def test_two_processes_agree_with_one_under_each_launcher_and_mode(
    rows: Path, launcher: str, options: tuple[object, ...]
) -> None:
    """Steps of 16 rows, by one process and by two; Adam divides tiny gradients by their own size,
    so weights may differ by more than sums do.
    """
    name = f"{launcher}-{options[1]}"
    one, stats, _ = trained(rows, f"one-{name}", "--batch-size", 16, *options)
    two, shared, said = trained(rows, f"two-{name}", "--batch-size", 8, *options, launcher=launcher)
    assert furthest(one, two) < 2e-4
    check_curves(shared, stats)
    assert (stats["processes"], shared["processes"], shared["rows_per_step"]) == (1, 2, 16)
    assert "steps of 16 rows (8 at once x 2 processes)" in said
    assert said.count("epoch 1/2") == 1, "the main process alone speaks"


@pytest.mark.slow
@pytest.mark.parametrize("then", [2, 1] if WHOLE else [2])
def test_a_run_goes_on_with_more_or_fewer_processes(rows: Path, then: int) -> None:
    """Killed behind its first epoch, with one or two processes, and resumed by the same command
    with two or one: as one that was never disturbed.
    """
    options = ("--tune", "full", "--learning-rate", 1e-4, "--epochs", 3, "--batch-size", 16 // then)
    straight, stats, _ = trained(
        rows, f"straight-{then}", *options, launcher=FORKED if then == 2 else None
    )
    killed = run_training(
        rows, f"moved-{then}", *options, launcher=FORKED if then == 2 else None, stop_after=1
    )
    assert killed.returncode != 0
    assert "epoch 1/3" in killed.stdout
    assert "epoch 2/3" not in killed.stdout
    moved, went_on, said = trained(
        rows, f"moved-{then}", *options, "--resume", launcher=None if then == 2 else FORKED
    )
    assert "epoch 1/3" not in said
    assert [*(rows / f"moved-{then}").glob(".*")] == []
    assert (
        "cpu in fp32 on 2 processes then, cpu in fp32 now"
        if then == 2
        else "cpu in fp32 then, cpu in fp32 on 2 processes now"
    ) in said
    assert (
        "steps of 16 rows (8 at once x 2 accumulated)"
        if then == 2
        else "steps of 16 rows (8 at once x 2 processes)"
    ) in said
    assert furthest(straight, moved) < 2e-4
    check_curves(went_on, stats)
    assert len(went_on["train_losses"]) == 3
