"""examples/library_tour.py does the whole job from Python alone, on a DataFrame in memory."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOUR = Path(__file__).resolve().parents[2] / "examples" / "library_tour.py"


@pytest.mark.slow
def test_the_tour_ends_with_a_bundle_that_tells_pairs_apart(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    done = subprocess.run(
        [sys.executable, TOUR, tmp_path / "tour"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    auroc = re.search(r"AUROC (\d\.\d+) on 64 rows", done.stdout)
    assert auroc is not None
    assert float(auroc[1]) > 0.75
    assert "labels: the most suspicious of 192" in done.stdout
    assert (tmp_path / "tour" / "bundle" / "manifest.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tour"]


def test_the_library_is_silent_unless_it_is_asked_to_speak() -> None:
    handlers = logging.getLogger("mismatch").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)
