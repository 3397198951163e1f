"""Virtual environments and wheels."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

__all__ = ["bin_of", "install", "install_beside", "wheel_of"]


def bin_of(folder: Path) -> Path:
    """Return the folder of a virtual environment's programs."""
    return folder / ("Scripts" if os.name == "nt" else "bin")


def install(folder: Path, *requirements: object) -> Path:
    """Make a fresh virtual environment with those in it; return its bin folder. What is imported
    is compiled then, and what is not never.
    """
    venv.create(folder, with_pip=True)
    subprocess.run([*_pip_install(folder), *map(str, requirements)], check=True)
    return bin_of(folder)


def install_beside(folder: Path, own: Path, *requirements: object) -> Path:
    """Make a virtual environment with our wheel and those, and behind them the packages that this
    process uses; return its bin folder. It spares the gigabytes and minutes of a fresh one.
    """
    venv.create(folder, with_pip=True)
    paths = {"base": str(folder), "platbase": str(folder)}
    site_packages = Path(sysconfig.get_path("purelib", "venv", paths))
    behind = [path for path in sys.path if Path(path).name == "site-packages"]
    (site_packages / "packages_behind.pth").write_text("\n".join(behind))
    pip_install = _pip_install(folder)
    # ours next to the one that is tested, not in place of it
    subprocess.run([*pip_install, "--no-deps", "--ignore-installed", str(own)], check=True)
    subprocess.run([*pip_install, *map(str, requirements)], check=True)
    return bin_of(folder)


def _pip_install(folder: Path) -> list[str]:
    python = str(bin_of(folder) / "python")
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    return [*pip, "install", "--no-compile"]


def wheel_of(project: Path, folder: Path) -> Path:
    """Build a project's wheel into that folder; return it."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
    before = set(folder.glob("*.whl"))
    subprocess.run([*build, str(folder), str(project)], check=True, capture_output=True)
    [wheel] = set(folder.glob("*.whl")) - before
    return wheel
