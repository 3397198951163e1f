"""What is installed of what mismatch needs is read from metadata, and versions are compared."""

from __future__ import annotations

import importlib.metadata
from email.message import Message

import pytest

from mismatch.jobs import installed
from mismatch.jobs.installed import Requirement, pip_line, requirements, version_of

LINES = [
    "numpy>=1.26",
    'torch!=2.13.0,>=2.10; extra == "train"',
    "pyarrow>=15; extra == 'parquet'",
    "mismatch-clip[parquet,remote]; extra == 'ray'",
    "fsspec>=2024.2; extra == 'remote'",
    "ray>=2.40; extra == 'ray'",
    "pytest; extra == 'dev'",
]
VERSIONS = {"numpy": "2.4.6", "torch": "2.13.0+cpu", "pyarrow": "14.0.2", "fsspec": "2026.9.0"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with these packages and no others."""
    about = Message()
    for line in LINES:
        about["Requires-Dist"] = line
    for extra in ("train", "parquet", "ray", "remote", "dev"):
        about["Provides-Extra"] = extra

    def version(name: str) -> str:
        if name not in VERSIONS:
            raise importlib.metadata.PackageNotFoundError(name)
        return VERSIONS[name]

    monkeypatch.setattr(installed, "metadata", lambda _name: about)
    monkeypatch.setattr(installed, "version", version)


def test_each_extra_has_what_it_needs(environment: None) -> None:
    needed = requirements()
    assert {extra: [str(item) for item in items] for extra, items in needed.items()} == {
        "": ["numpy>=1.26 (2.4.6 is installed)"],
        "train": ["torch!=2.13.0,>=2.10 (2.13.0+cpu is installed)"],
        "parquet": ["pyarrow>=15 (14.0.2 is installed)"],
        "ray": [
            "pyarrow>=15 (14.0.2 is installed)",
            "fsspec>=2024.2 (2026.9.0 is installed)",
            "ray>=2.40",
        ],
        "remote": ["fsspec>=2024.2 (2026.9.0 is installed)"],
    }
    met = {item.name: item.is_met for items in needed.values() for item in items}
    assert met == {"numpy": True, "torch": False, "pyarrow": False, "fsspec": True, "ray": False}


@pytest.mark.parametrize(
    ("versions", "there", "met"),
    [
        (">=5.4", "5.4", True),
        (">=5.4", "5.4.0", True),
        (">=5.4", "5.10.1", True),
        (">=5.4", "5.3.9", False),
        (">=2.10,!=2.13.0", "2.13", False),
        (">=2.10,!=2.13.0", "2.13.1+cu126", True),
        ("~=0.3", "0.6", True),
        ("<3,>1", "2.0rc1", True),
        ("<=3,==3.0", "3", True),
        ("", "0", True),
        ("", None, False),
    ],
)
def test_versions_are_compared_by_their_numbers(
    versions: str, there: str | None, met: bool
) -> None:
    assert Requirement("any", versions, there).is_met is met


def test_a_pip_line_installs_an_extra_or_mismatch_itself() -> None:
    assert pip_line("train") == 'pip install "mismatch-clip[train]"'
    assert pip_line("") == "pip install --upgrade mismatch-clip"


def test_what_runs_without_being_installed_has_no_requirements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(installed, "DISTRIBUTION", "no-such-distribution-of-ours")
    assert requirements() == {}
    assert version_of("no-such-distribution-of-ours") is None


def test_onnxruntime_for_gpus_stands_in_for_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name != "onnxruntime-gpu":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.32.0"

    monkeypatch.setattr(installed, "version", version)
    assert version_of("onnxruntime") == "1.32.0"


def test_this_environment_has_what_mismatch_needs() -> None:
    base = requirements()[""]
    assert {"numpy", "onnxruntime", "click"} <= {item.name for item in base}
    assert [str(item) for item in base if not item.is_met] == []
