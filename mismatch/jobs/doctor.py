"""What this machine and this environment have, and what they lack."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mismatch import __version__
from mismatch.evaluation.machine import machine
from mismatch.io.text import one_line
from mismatch.jobs.hub_access import HubAccess, hub_access
from mismatch.jobs.installed import Requirement, pip_line, requirements
from mismatch.jobs.results import Result
from mismatch.reports.doctor_lines import doctor_lines
from mismatch.runtime.hardware import available_memory, exact_int8_products
from mismatch.runtime.time_limit import answer_within

__all__ = ["DoctorResult", "ExtraState", "doctor"]

GPU_SECONDS = 5.0  # in which a driver that works answers
GPU_QUESTION = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
CUDA = "CUDAExecutionProvider"
FOR_GPU = "pip uninstall onnxruntime, then pip install onnxruntime-gpu"


@dataclass(frozen=True)
class ExtraState:
    """An extra, and what this environment lacks of it."""

    lacks: tuple[str, ...]  # packages that are missing or of a version that won't do; (): none
    install: str  # the pip line that brings all of the extra


@dataclass(frozen=True)
class DoctorResult(Result):
    """What a machine and an environment have, and what they lack.

    `version`: of mismatch.
    `python`: version of Python.
    `system`: operating system and processor, as Linux 6.8.0 x86_64.
    `libraries`: package → its version; None: it is not installed. Those of mismatch and its extras.
    `extras`: extra → what is missing of it.
    `cpu`: name of the processor.
    `cpus`: CPUs that this process may use.
    `instructions`: instruction sets of the CPU for which kernels are made.
    `exact_int8`: whether int8 bundles are exact at full speed here; else slower kernels are taken.
    `providers`: onnxruntime's, the fastest first; empty where it can't be loaded.
    `gpus`: NVIDIA GPUs with their memory and driver.
    `free_memory`: bytes; None where the system doesn't say.
    `free_disk`: bytes, of the working directory and of the cache folder, where they can be told.
    `hub`: whether the model hub answers.
    `problems`: what has to be repaired.
    `advice`: what would make it faster.
    """

    version: str
    python: str
    system: str
    libraries: dict[str, str | None]
    extras: dict[str, ExtraState]
    cpu: str
    cpus: int
    instructions: tuple[str, ...]
    exact_int8: bool
    providers: tuple[str, ...]
    gpus: tuple[str, ...]
    free_memory: int | None
    free_disk: dict[str, int]
    hub: HubAccess
    problems: tuple[str, ...]
    advice: tuple[str, ...]

    def summary(self) -> list[str]:
        """Return it for people, a line each."""
        return doctor_lines(self)


def doctor() -> DoctorResult:
    """Look at this machine and this environment, within seconds. No library is loaded but
    onnxruntime, and nothing is sent but one question to the model hub, unless HF_HUB_OFFLINE or
    TRANSFORMERS_OFFLINE is set.
    """
    needed = requirements()
    facts = machine()
    no_gpu: tuple[str, ...] = ()
    gpus = answer_within(GPU_SECONDS, _gpus, no_gpu)
    providers, problems = _onnxruntime()
    return DoctorResult(
        version=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        libraries={item.name: item.installed for items in needed.values() for item in items},
        extras={extra: _state(extra, items) for extra, items in needed.items() if extra},
        cpu=facts["cpu"],
        cpus=facts["cpus"],
        instructions=tuple(facts["instructions"]),
        exact_int8=exact_int8_products(),
        providers=providers,
        gpus=gpus,
        free_memory=available_memory(),
        free_disk=_free_disk(),
        hub=hub_access(),
        problems=(*_base_problems(needed.get("", [])), *problems),
        advice=_advice(gpus, providers),
    )


def _state(extra: str, needed: Sequence[Requirement]) -> ExtraState:
    lacks = tuple(str(item) for item in needed if not item.is_met)
    return ExtraState(lacks, pip_line(extra))


def _base_problems(needed: Sequence[Requirement]) -> list[str]:
    if not needed:
        return [
            f"mismatch runs without being installed, so what it needs is unknown: {pip_line('')}"
        ]
    lacks = [str(item) for item in needed if not item.is_met]
    return [f"mismatch lacks {', '.join(lacks)}: {pip_line('')}"] if lacks else []


def _onnxruntime() -> tuple[tuple[str, ...], list[str]]:
    """Return its providers, and what is wrong with it."""
    try:
        from mismatch.runtime.onnx_graph import available_providers, installed_packages
    except Exception as error:  # noqa: BLE001  its libraries fail in many ways as they are loaded
        return (), [f"onnxruntime can't be loaded ({one_line(error)}): {pip_line('')}"]
    packages = installed_packages()
    problems = []
    if len(packages) > 1:
        problems.append(
            f"{' and '.join(packages)} are both installed and share one folder: uninstall both,"
            " then install one of them"
        )
    return tuple(available_providers()), problems


def _advice(gpus: Sequence[str], providers: Sequence[str]) -> tuple[str, ...]:
    if gpus and providers and CUDA not in providers:
        return (f"there is a GPU, and this onnxruntime can't use it: {FOR_GPU}",)
    return ()


def _gpus() -> tuple[str, ...]:
    """Return NVIDIA's GPUs as their driver describes them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        done = subprocess.run(
            [program, *GPU_QUESTION],
            capture_output=True,
            text=True,
            timeout=GPU_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip())


def _free_disk() -> dict[str, int]:
    """Return the bytes that are free where results and where caches go."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    places = {"working directory": Path(), "cache folder": Path(cache)}
    free = {}
    for name, folder in places.items():
        with suppress(OSError):  # it was removed, or may not be looked at
            free[name] = _free(folder)
    return free


def _free(folder: Path) -> int:
    """Return the bytes that are free in a folder, or in the one above that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
