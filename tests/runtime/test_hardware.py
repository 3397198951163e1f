"""mismatch.runtime.hardware: CPUs by affinity and by quota."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mismatch.runtime import hardware


@pytest.mark.parametrize(
    ("content", "affinity", "expected"),
    [
        ("max 100000", 8, 8),
        ("150000 100000", 8, 2),
        ("50000 100000", 8, 1),
        ("800000 100000", 2, 2),
        ("nonsense", 3, 3),
    ],
)
def test_quota_of_a_container_bounds_the_cpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, affinity: int, expected: int
) -> None:
    (tmp_path / "cpu.max").write_text(content)
    monkeypatch.setattr(hardware, "CGROUP_V2", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    assert hardware.available_cpus() == expected


@pytest.mark.parametrize(("quota", "expected"), [("200000", 2), ("-1", 6)])
def test_quota_of_the_older_control_groups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, expected: int
) -> None:
    (tmp_path / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu.cfs_period_us").write_text("100000")
    monkeypatch.setattr(hardware, "CGROUP_V2", tmp_path / "absent")
    monkeypatch.setattr(hardware, "CGROUP_V1", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert hardware.available_cpus() == expected


@pytest.mark.parametrize(
    ("machine", "flags", "exact"),
    [
        ("x86_64", "fpu sse2 avx2", False),
        ("x86_64", "fpu avx512f avx512_vnni", True),
        ("AMD64", "fpu avx2 avx_vnni", True),
        ("x86_64", None, False),
        ("aarch64", None, True),
    ],
)
def test_older_x86_cpus_need_other_int8_kernels(
    machine: str, flags: str | None, exact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(hardware, "CPUINFO", tmp_path / "cpuinfo")
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert hardware.exact_int8_products.__wrapped__() == exact


@pytest.mark.parametrize(
    ("meminfo", "limit", "used", "free"),
    [
        ("MemTotal: 9 kB\nMemAvailable:    2048 kB\n", "max", "5", 2 * 2**20),
        ("MemAvailable: 2048 kB\n", "1000000", "400000", 600000),
        ("MemAvailable: 2048 kB\n", "100", "400", 0),
        ("MemTotal: 9 kB\n", "max", "5", None),
        ("MemAvailable: many kB\n", "none", "", None),
        (None, None, None, None),
        (None, "1000000", "400000", 600000),
    ],
)
def test_free_memory_is_what_system_and_container_leave(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    meminfo: str | None,
    limit: str | None,
    used: str | None,
    free: int | None,
) -> None:
    files = {"MEMINFO": meminfo, "MEMORY_LIMIT": limit, "MEMORY_USED": used}
    for name, text in files.items():
        if text is not None:
            (tmp_path / name).write_text(text)
        monkeypatch.setattr(hardware, name, tmp_path / name)
    assert hardware.available_memory() == free


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a process has")
def test_freed_memory_goes_back_to_the_system() -> None:
    """64 MB in pieces, between which some stay, so that the C library keeps all."""
    pieces = [bytes(4000) for _ in range(16_000)]
    kept = pieces[:: len(pieces) // 8]
    before = resident_bytes()
    del pieces
    hardware.give_back_memory()
    assert len(kept) >= 8
    assert resident_bytes() < before - 32e6
