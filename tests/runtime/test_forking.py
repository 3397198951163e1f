"""A model in a forked process scores there, and the process ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mismatch.errors import MachineError
from mismatch.runtime.forking import has_threads, keep_alive
from mismatch.runtime.predictor import Predictor

CHILD = """
import gc, os, sys, mismatch
predictor = mismatch.load(sys.argv[1], "cpu", threads=2)
first = predictor.predict(sys.argv[2], "a red shirt").similarity_score
child = os.fork()
if not child:
    second = predictor.predict(sys.argv[2], "a red shirt").similarity_score
    print("same" if abs(first - second) < 1e-4 else f"{first} and {second}", flush=True)
    del predictor
    gc.collect()
    sys.exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.mark.parametrize("kind", ["checkpoint", "bundle"])
def test_a_forked_process_scores_and_ends(
    tiny_checkpoints: dict[str, Path],
    tiny_bundles: dict[str, Path],
    colour_images: Path,
    kind: str,
) -> None:
    model = {"checkpoint": tiny_checkpoints, "bundle": tiny_bundles}[kind]["openclip"]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(model), str(colour_images / "red.png")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["same"]), done.stderr


def test_an_engine_without_threads_stays(colour_engine: Any, colour_images: Path) -> None:
    predictor = Predictor(colour_engine())
    engine = predictor.engine
    predictor._model.after_fork()
    assert predictor.predict(colour_images / "red.png", "red").is_match
    assert predictor.engine is engine


def test_an_engine_with_threads_that_nobody_can_load_again_is_refused(colour_engine: Any) -> None:
    engine = colour_engine()
    engine.threads = 2
    predictor = Predictor(engine)
    predictor._model.after_fork()
    with pytest.raises(MachineError, match="load it in this process"):
        predictor.predict("a.png", "red")
    predictor.close()


def test_which_engines_have_threads() -> None:
    assert has_threads(SimpleNamespace(threads=2, provider="cpu"))
    assert has_threads(SimpleNamespace(threads=1, provider="cuda"))
    assert not has_threads(SimpleNamespace(threads=1, provider="cpu"))
    assert not has_threads(SimpleNamespace(threads=4, after_fork=print))


def test_what_is_kept_alive_is_not_let_go() -> None:
    import weakref

    class Thing:
        pass

    thing = Thing()
    reference = weakref.ref(thing)
    keep_alive(thing)
    del thing
    assert reference() is not None
