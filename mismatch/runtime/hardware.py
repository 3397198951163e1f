"""How many CPUs this process may really use, and what they can do."""

from __future__ import annotations

import ctypes
import math
import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = [
    "MAX_THREADS",
    "available_cpus",
    "available_memory",
    "exact_int8_products",
    "give_back_memory",
]

# the towers', or those that decode: more than any machine has CPUs for; a million would take
# gigabytes of stacks
MAX_THREADS = 1_024
CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")  # "<quota> <period>" in microseconds, or "max <period>"
CGROUP_V1 = Path("/sys/fs/cgroup/cpu")
CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
# bytes that the container may have, or max, and those that it has
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
MEMORY_USED = Path("/sys/fs/cgroup/memory.current")
# flags of x86 CPUs that add products of 8 bits in 32
DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8"}


def available_cpus() -> int:
    """Count CPUs by affinity and by the container's quota, rounded up; at least 1."""
    affinity = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, min(affinity, math.ceil(_cgroup_quota() or affinity)))


def _cgroup_quota() -> float | None:
    """Return the CPUs that the container's control group grants; None without a limit."""
    try:
        if CGROUP_V2.is_file():
            quota, period = CGROUP_V2.read_text().split()[:2]
        else:
            quota = (CGROUP_V1 / "cpu.cfs_quota_us").read_text().strip()
            period = (CGROUP_V1 / "cpu.cfs_period_us").read_text().strip()
        return int(quota) / int(period) if quota != "max" and int(quota) > 0 else None
    except (OSError, ValueError):
        return None


def available_memory() -> int | None:
    """Return the bytes of memory that this process can still have, by the system and by the
    container's limit; None where neither says.
    """
    free = [size for size in (_system_memory(), _cgroup_memory()) if size is not None]
    return min(free, default=None)


def _system_memory() -> int | None:
    try:
        for line in MEMINFO.read_text().splitlines():
            name, _, kilobytes = line.partition(":")
            if name == "MemAvailable":
                return int(kilobytes.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _cgroup_memory() -> int | None:
    """Return the bytes that the container's control group leaves; None without a limit."""
    try:
        limit = MEMORY_LIMIT.read_text().strip()
        return None if limit == "max" else max(0, int(limit) - int(MEMORY_USED.read_text()))
    except (OSError, ValueError):
        return None


def give_back_memory() -> None:
    """Give freed memory back to the system, where the C library is glibc, which keeps most."""
    with suppress(OSError, AttributeError):  # no such library, no such function
        ctypes.CDLL(None).malloc_trim(0)


@cache
def exact_int8_products() -> bool:
    """Return whether onnxruntime's fastest products of unsigned and signed bytes are exact here:
    older x86 CPUs add pairs of them in 16 bits, which overflow.

    Where an x86 CPU's flags can't be read, it counts as an older one.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return True
    try:
        flags = next(
            (line for line in CPUINFO.read_text().splitlines() if line.startswith("flags")), ""
        )
    except OSError:
        return False
    return not DOT_PRODUCTS.isdisjoint(flags.split())
