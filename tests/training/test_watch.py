"""The note next to the bar, what trackers hear of single steps, and how often the loss is read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mismatch.training.watch import Watch, duration


class Told:
    """Trackers that keep what they are told."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.open, self.heard = dict.fromkeys(names), list[tuple[int, dict[str, float]]]()

    def log(self, values: dict[str, float], step: int) -> None:
        self.heard.append((step, values))


def watch(told: Any, steps: int = 10, epochs: int = 2, backbone: float = 1e-5) -> Watch:
    groups = ([{"part": "backbone", "lr": backbone}] if backbone else []) + [
        {"part": "head", "lr": 1e-3}
    ]
    optimizer: Any = SimpleNamespace(param_groups=groups)
    return Watch(optimizer, told, steps, epochs)


def test_loss_rate_and_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 108.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    seen = watch(Told(()))
    assert seen.after(1, torch.tensor([8.0, 3.0]), 16)() == "loss 0.5000, rate 1.0e-05"
    # 4 steps in 8 s, 15 are left
    assert (
        seen.after(5, torch.tensor([20.0, 3.0]), 80)()
        == "loss 0.2500, rate 1.0e-05, 0:30 left in all"
    )


def test_of_a_frozen_backbone_the_heads_rate_is_shown() -> None:
    assert (
        watch(Told(()), backbone=0.0).after(1, torch.tensor([8.0, 3.0]), 16)()
        == "loss 0.5000, rate 1.0e-03"
    )


def test_the_loss_is_read_only_for_a_note_that_is_shown() -> None:
    class Sums(torch.Tensor):
        def __float__(self) -> float:
            raise AssertionError("a look at the loss waits for the GPU")

    seen: Any = torch.ones(2).as_subclass(Sums)
    note = watch(Told(())).after(1, seen, 1)
    with pytest.raises(AssertionError, match="waits"):
        note()


def test_trackers_hear_the_mean_since_they_last_heard_and_a_new_epoch_begins_anew() -> None:
    told = Told(("tensorboard",))
    seen = watch(told, steps=40)
    for epoch in (0, 1):
        for step in range(1, 41):
            seen.after(40 * epoch + step, torch.tensor([float(step * step), 2.0 * step]), step)
    assert [step for step, _ in told.heard] == list(range(2, 81, 2))
    # of (s² − (s − 2)²) / 2
    assert [values["step/loss"] for _, values in told.heard] == [
        2.0 * step - 2 for step in range(2, 41, 2)
    ] * 2
    assert told.heard[3][1] == {
        "step/loss": 14.0,
        "step/contrastive_loss": 2.0,
        "rate/backbone": 1e-5,
        "rate/head": 1e-3,
    }


@pytest.mark.parametrize(
    ("seconds", "shown"), [(6.7, "0:07"), (751, "12:31"), (3723, "1:02:03"), (0, "0:00")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
