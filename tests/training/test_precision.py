"""Which precision a run gets, and what is refused or warned of."""

from __future__ import annotations

import pytest
import torch

from mismatch.errors import InputError
from mismatch.training import precision as module
from mismatch.training.precision import autocast, choose_precision, has_bf16
from tests.support.training_lines import training_lines

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


def choose(asked: str, tune: str = "full", device: torch.device = CPU) -> tuple[str, list[str]]:
    with training_lines() as lines:
        return choose_precision(asked, tune, device), lines


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_auto_is_bf16_where_the_hardware_has_it(
    monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    for there, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(module, "has_bf16", lambda device, there=there: there)
        assert choose("auto", device=device) == (expected, [])
        assert choose("auto", "head", device) == ("fp32", [])


@pytest.mark.parametrize(
    ("launched", "expected"), [("bf16", "bf16"), ("fp16", "fp16"), ("no", "fp32"), ("fp8", "fp32")]
)
def test_auto_takes_what_accelerate_was_launched_with(
    monkeypatch: pytest.MonkeyPatch, launched: str, expected: str
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    monkeypatch.setattr(module, "has_bf16", lambda device: launched == "bf16")
    assert choose("auto", device=CUDA)[0] == expected
    assert choose("fp32", device=CUDA)[0] == "fp32"


def test_fp16_needs_cuda_and_a_frozen_backbone_needs_none() -> None:
    assert choose("fp16", device=CUDA) == ("fp16", [])
    for device in (CPU, MPS):
        with pytest.raises(
            InputError,
            match=(
                rf"`precision='fp16'` needs a CUDA device, and this is {device.type}; use bf16 or"
                r" fp32"
            ),
        ):
            choose("fp16", device=device)
    for asked in ("bf16", "fp16"):
        with pytest.raises(
            InputError,
            match=rf"`precision='{asked}'` is for towers in training, and `tune='head'` trains none",
        ):
            choose(asked, "head")


def test_bf16_without_hardware_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_bf16", lambda device: False)
    found, [line] = choose("bf16")
    assert found == "bf16"
    assert line.startswith("warning: this cpu has no bf16 in hardware")


def test_a_cpu_has_bf16_by_either_of_two_instruction_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    for first, second in ((True, False), (False, True), (False, False)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda first=first: first)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda second=second: second)
        assert has_bf16(CPU) == (first or second)
    assert not has_bf16(MPS)


def test_autocast_changes_matrix_products_and_fp32_nothing() -> None:
    a = torch.ones(2, 2)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(name, CPU):
            assert (a @ a).dtype == dtype
