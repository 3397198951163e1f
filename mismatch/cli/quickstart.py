"""`mismatch quickstart`: see `mismatch.quickstart`."""

from __future__ import annotations

from pathlib import Path

from mismatch.cli.logs import lines_on_stdout
from mismatch.cli.options import PATH
from mismatch.cli.value_types import SEED
from mismatch.cli.verb import echo_result, option, verb

__all__ = ["command"]


@verb(
    "Draw, train, evaluate, export, predict in a few minutes.",
    option("--dir", PATH, Path("mismatch_quickstart")),
    option("--seed", SEED, 0),
)
def command(dir: Path, seed: int) -> None:  # noqa: A002 (the option's name)
    """Draw a product catalogue, train on it, evaluate, export, predict: no network, no data, a few
    minutes.

    Combinations of article, colour, pattern and count that training never saw are what it is
    measured on. Ends with the commands for your own data.

    Options:
    --dir: Folder to write everything to.
    --seed: Seed of the drawings, the split and the training.
    """
    from mismatch.cli.train import command as train
    from mismatch.jobs.quickstart import quickstart

    with lines_on_stdout("mismatch.training", train), lines_on_stdout("mismatch.jobs.quickstart"):
        result = quickstart(dir, seed=seed)
    echo_result(result)
