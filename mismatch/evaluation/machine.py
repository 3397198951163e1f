"""What a machine is, as far as speed depends on it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from mismatch.runtime.hardware import available_cpus

__all__ = ["CPUINFO", "INSTRUCTIONS", "machine"]

CPUINFO = Path("/proc/cpuinfo")
# instruction sets that kernels are made for, on x86-64 and on Arm
INSTRUCTIONS = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)


def machine() -> dict[str, Any]:
    """Return what the figures belong to."""
    info = CPUINFO.read_text(errors="replace") if CPUINFO.is_file() else ""
    fields = {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in info.splitlines())
    }
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "cpus": available_cpus(),
        "python": platform.python_version(),
    }
