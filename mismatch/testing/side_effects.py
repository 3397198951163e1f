"""That it changes nothing but its own results: modes, threads, what is printed."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout

import numpy as np

from mismatch.backbones.base import Backbone
from mismatch.testing.checks import Checks
from mismatch.testing.outcomes import CLOSE, fail, percent
from mismatch.testing.probes import distance, probes_of

__all__ = ["SideEffectChecks"]

THREADS = 8
CALLS = 64  # of each tower, by all threads together
OFTEN = 1e-5  # seconds after which another thread may run
SHOWN = 80  # letters of what is printed


class SideEffectChecks(Checks):
    """That it changes nothing but its own results: modes, threads, what is printed."""

    def test_modes(self, backbone: Backbone) -> None:
        """`train()` and `eval()` put all of it into that mode."""
        try:
            if not backbone.train().training:
                fail("train() leaves the backbone in eval mode; call super().train(mode) in it")
            backbone.eval()
            left = [name or "it" for name, part in backbone.named_modules() if part.training]
            if left:
                fail(f"eval() leaves {left[0]} in training mode; call super().train(mode) in it")
        finally:
            backbone.eval()

    def test_nothing_is_printed(self, backbone: Backbone) -> None:
        """Embedding prints nothing: stdout is a command's, and may be JSON."""
        for tower in probes_of(backbone):
            printed = io.StringIO()
            with redirect_stdout(printed):
                tower.embed()
            if text := printed.getvalue().strip():
                fail(
                    f"{tower.name} prints {text.splitlines()[0][:SHOWN]!r}, and a command's output"
                    " would hold it; use the logging module"
                )

    def test_threads(self, backbone: Backbone) -> None:
        """Several threads at once get what one gets: a predictor is shared by all of a service."""
        for tower in probes_of(backbone):
            alone = np.concatenate([tower.embed([row]) for row in range(len(tower))])
            rows = [[call % len(tower)] for call in range(CALLS)]
            with _switching_often(), ThreadPoolExecutor(THREADS) as pool:
                results = list(pool.map(tower.embed, rows))
            gaps = [
                distance(alone[row], result, among=alone)
                for row, result in zip(rows, results, strict=True)
            ]
            if max(gaps) > CLOSE:
                fail(
                    f"{tower.name} gives another embedding while other threads call it"
                    f" ({percent(max(gaps))}): something of a call is kept on the backbone; keep it"
                    " in local variables"
                )


@contextmanager
def _switching_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(OFTEN)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
