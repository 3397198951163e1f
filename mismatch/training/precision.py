"""In which precision the towers compute while they train. The head, the losses and all that
validation sees are fp32 always.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from mismatch.errors import InputError
from mismatch.training.callbacks import warn

__all__ = ["autocast", "choose_precision", "has_bf16"]

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
BF16_CPUS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # of torch.cpu
LAUNCHED = "ACCELERATE_MIXED_PRECISION"  # what `accelerate launch --mixed_precision` sets


def choose_precision(asked: str, tune: str, device: torch.device) -> str:
    """Choose fp32, bf16 or fp16; auto takes the launcher's, else bf16 where the device has it in
    hardware. InputError for one that can't be had.
    """
    if tune == "head":
        if asked not in ("auto", "fp32"):
            raise InputError(
                f"`precision='{asked}'` is for towers in training, and `tune='head'` trains none;"
                " leave it out"
            )
        return "fp32"
    if asked == "auto":
        launched = os.environ.get(LAUNCHED, "no")
        hardware = "bf16" if has_bf16(device) else "fp32"
        asked = launched if launched in DTYPES else hardware
    if asked == "fp16" and device.type != "cuda":
        raise InputError(
            f"`precision='fp16'` needs a CUDA device, and this is {device.type}; use bf16 or fp32"
        )
    if asked == "bf16" and not has_bf16(device):
        warn(
            "precision",
            f"this {device.type} has no bf16 in hardware, so `precision='bf16'` may be slower than"
            " fp32, many times on a CPU",
        )
    return asked


def has_bf16(device: torch.device) -> bool:
    """Return whether it multiplies matrices in bf16 in hardware: a CPU with AVX512_BF16 or AMX,
    CUDA from Ampere on.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    checks: Sequence[Callable[[], bool] | None] = [
        getattr(torch.cpu, name, None) for name in BF16_CPUS
    ]
    return any(check is not None and check() for check in checks)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Cast for one pass through the towers: its cache of cast weights must not outlive it, as one
    made without a graph has no gradient.
    """
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, DTYPES[precision])
