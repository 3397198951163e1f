"""What the checks of all concerns share."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import ClassVar

import torch

from mismatch.backbones import registry
from mismatch.backbones.base import Backbone
from mismatch.backbones.families import BackboneFamily
from mismatch.testing.outcomes import fail, skip

__all__ = ["Checks", "in_new_process"]


class Checks:
    """What all checks share; each file of this folder has those of one concern."""

    # FAMILY or FAMILY:MODEL as installed: turns on the checks of the plugin itself
    reference: ClassVar[str] = ""
    # a staticmethod: directory → backbone; the family's own where `reference` is given
    load: ClassVar[staticmethod[[str], Backbone] | None] = None

    def _loader(self) -> Callable[[str], Backbone] | None:
        return type(self).load or (self._family().load if self.reference else None)

    def _family(self) -> BackboneFamily:
        if not self.reference:
            skip(
                "reference is not given: set it to FAMILY or FAMILY:MODEL to check the installed"
                " plugin"
            )
        return registry.family(self.reference.partition(":")[0])


def in_new_process(code: str, *arguments: object, what: str) -> str:
    """Run `code` in an empty working directory, without the current one on the path; return what it
    prints last.
    """
    with tempfile.TemporaryDirectory(prefix="mismatch-contract-") as folder:
        command = [sys.executable, "-P", "-W", "ignore", "-c", code, *map(str, arguments)]
        paths = os.pathsep.join(
            os.path.abspath(path)
            for path in os.environ.get("PYTHONPATH", "").split(os.pathsep)
            if path
        )
        environment = os.environ | {
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
            "PYTHONPATH": paths,
        }
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        fail(f"{what} fails in a new process: {last}")
    return (done.stdout.strip().splitlines() or [""])[-1]
