"""mismatch.doctor: what is there and what is missing, quickly, with nothing heavy loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import mismatch
from mismatch import cli
from mismatch.jobs import doctor as module
from mismatch.jobs.doctor import DoctorResult, ExtraState, doctor
from mismatch.jobs.hub_access import HubAccess
from mismatch.jobs.installed import Requirement
from mismatch.reports.doctor_lines import doctor_lines


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


RESULT = DoctorResult(
    version="1.2.3",
    python="3.12.1",
    system="Linux 6.8 x86_64",
    libraries={"numpy": "2.4.6", "ray": None},
    extras={
        "train": ExtraState(("torch>=2.10",), 'pip install "mismatch-clip[train]"'),
        "parquet": ExtraState((), 'pip install "mismatch-clip[parquet]"'),
    },
    cpu="A CPU",
    cpus=2,
    instructions=("avx2",),
    exact_int8=False,
    providers=("CPUExecutionProvider",),
    gpus=("NVIDIA H200, 143771 MiB, 550",),
    free_memory=3 * 2**30,
    free_disk={"working directory": 2**30, "cache folder": 2**31},
    hub=HubAccess("huggingface.co", True, ""),
    problems=("numpy is broken",),
    advice=("use the GPU",),
)


def test_it_says_what_is_there() -> None:
    result = mismatch.doctor()
    assert isinstance(result, mismatch.DoctorResult)
    assert result.version == mismatch.__version__
    assert result.libraries["numpy"]
    assert "CPUExecutionProvider" in result.providers
    assert result.problems == ()
    extras = {"train", "serve", "parquet", "audit", "remote", "report", "ray"}
    extras |= {"datasets", "heif", "hub"}
    assert set(result.extras) - {"docs"} == extras
    assert result.extras["train"].install == 'pip install "mismatch-clip[train]"'
    assert result.hub.reachable is None
    assert result.cpus >= 1
    assert all(size > 0 for size in result.free_disk.values())


def test_the_lines_have_all_of_it() -> None:
    lines = doctor_lines(RESULT)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 100
    assert lines[0] == "mismatch 1.2.3, Python 3.12.1, Linux 6.8 x86_64"
    for words in (
        "A CPU; 2 for this process; avx2",
        "slower kernels",
        "NVIDIA H200",
        "CPUExecutionProvider",
        "3.0 GiB free",
        "1.0 GiB free in the working directory, 2.0 GiB free in the cache folder",
        "huggingface.co: it answers",
        "numpy 2.4.6",
        'lacks torch>=2.10: pip install "mismatch-clip[train]"',
        "parquet    complete",
        "use the GPU",
        "numpy is broken",
    ):
        assert words in text, words
    assert "ray" not in text


def test_lines_where_little_is_known() -> None:
    unknown = replace(
        RESULT,
        libraries={},
        instructions=(),
        exact_int8=True,
        providers=(),
        gpus=(),
        free_memory=None,
        free_disk={},
        hub=HubAccess("", False, "no answer"),
        problems=(),
        advice=(),
    )
    text = "\n".join(doctor_lines(unknown))
    assert "exact at full speed" in text
    assert "no NVIDIA GPU found" in text
    assert "onnxruntime can't be loaded" in text
    assert "problems" not in text
    assert "advice" not in text


def test_the_command_prints_lines_or_json_and_exits_1_for_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = CliRunner().invoke(cli.main, ["doctor"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"mismatch {mismatch.__version__}, Python ")
    monkeypatch.setattr(module, "doctor", lambda: RESULT)
    result = CliRunner().invoke(cli.main, ["doctor", "--json"])
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert data["extras"]["train"]["lacks"] == ["torch>=2.10"]
    assert data["hub"] == {"host": "huggingface.co", "reachable": True, "detail": ""}
    assert data["libraries"]["ray"] is None


def test_what_mismatch_lacks_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {"": [Requirement("numpy", ">=3", "2.4")], "train": [Requirement("torch", "", None)]}
    monkeypatch.setattr(module, "requirements", lambda: needed)
    result = doctor()
    assert result.problems == (
        "mismatch lacks numpy>=3 (2.4 is installed): pip install --upgrade mismatch-clip",
    )
    assert result.extras["train"].lacks == ("torch",)
    monkeypatch.setattr(module, "requirements", dict)
    assert "without being installed" in doctor().problems[0]


def test_an_onnxruntime_that_does_not_load_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mismatch.runtime.onnx_graph", None)
    result = doctor()
    assert result.providers == ()
    assert "onnxruntime can't be loaded" in result.problems[0]


def test_two_packages_of_onnxruntime_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    from mismatch.runtime import onnx_graph

    both = ["onnxruntime", "onnxruntime-gpu"]
    monkeypatch.setattr(onnx_graph, "installed_packages", lambda: both)
    assert "onnxruntime and onnxruntime-gpu" in doctor().problems[0]


def test_a_gpu_that_onnxruntime_does_not_use_is_advice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771 MiB, 550.54'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    result = doctor()
    assert result.gpus == ("NVIDIA H200, 143771 MiB, 550.54",)
    assert "onnxruntime-gpu" in result.advice[0]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert doctor().gpus == ()


def test_a_driver_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec sleep 20\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(module, "GPU_SECONDS", 0.2)
    assert doctor().gpus == ()


def test_a_working_directory_that_is_gone_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "yet"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert doctor().free_disk["cache folder"] > 0


def test_nothing_heavy_is_loaded() -> None:
    code = (
        "import sys, mismatch; mismatch.doctor();"
        "print(sorted({'torch', 'transformers', 'pyarrow', 'open_clip', 'jinja2', 'click', 'PIL',"
        " 'huggingface_hub', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
