"""mismatch.io.parents: a process ends with the one that started it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import os, subprocess, sys, time
from mismatch.io.parents import end_with_parent
if len(sys.argv) > 1:
    end_with_parent(int(sys.argv[1]))
    print(os.getpid(), flush=True)
    time.sleep(60)
else:
    subprocess.run([sys.executable, __file__, str(os.getpid())])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems can't promise it")
def test_a_killed_parent_leaves_no_child(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        assert parent.stdout.read() == ""  # ends as soon as the child has ended too
    for _ in range(100):
        if has_ended(child):
            break
        time.sleep(0.05)
    assert has_ended(child)


def has_ended(process: int) -> bool:
    """Also one that nobody has waited for."""
    stat = Path(f"/proc/{process}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_a_parent_that_has_ended_already_ends_it() -> None:
    program = "from mismatch.io.parents import end_with_parent; end_with_parent(1 << 22); print(1)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
