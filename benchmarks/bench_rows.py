"""How long training's processes take until their rows are ready, and what memory these take: shared
among them, or each process reading all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

WORDS = [
    "red",
    "green",
    "blue",
    "grey",
    "shirt",
    "shoe",
    "bag",
    "dress",
    "cotton",
    "leather",
    "woven",
    "soft",
    "slim",
    "size",
    "small",
    "large",
    "new",
]
LAUNCH = (
    "-m",
    "torch.distributed.run",
    "--rdzv-backend",
    "c10d",
    "--rdzv-endpoint",
    "localhost:0",
    "--nproc-per-node",
)


def main() -> None:
    """Write a file of rows, have processes get ready on it in both ways, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--child", nargs=3, metavar=("FOLDER", "CSV", "HOW"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.child:
        folder, rows, how = options.child
        get_ready(Path(folder), rows, shared=how == "shared")
        return
    print(
        f"{options.rows:,} rows, a tenth held out, {options.processes} processes; seconds of the"
        " slowest process, MB of the largest\n"
    )
    print(
        "| reading | rows parsed by each | rows read, s | texts tokenized too, s | memory at its"
        " peak, MB | memory then, MB |\n|---|---|---|---|---|---|"
    )
    with TemporaryDirectory() as place:
        rows = Path(place) / "rows.csv"
        write_rows(rows, options.rows)
        for how in ("whole", "shared"):
            print(measure(Path(place), rows, how, options.processes))


def write_rows(path: Path, count: int) -> None:
    """Two rows an image; texts of ten words, nearly all different."""
    words = np.array(WORDS)[np.random.default_rng(0).integers(0, len(WORDS), (count, 10))]
    with path.open("w") as file:
        file.write("image_path,text,label\n")
        file.writelines(
            f"photos/{i // 2:08}.jpg,{' '.join(words[i])} {i % 1000},{i % 2}\n"
            for i in range(count)
        )


def measure(folder: Path, rows: Path, how: str, processes: int) -> str:
    """A line of the table."""
    subprocess.run(
        [sys.executable, *LAUNCH, str(processes), __file__, "--child", str(folder), str(rows), how],
        check=True,
        capture_output=True,
    )
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("said.*.json"))]
    most = {name: max(one[name] for one in found) for name in found[0]}
    parsed = " and ".join(f"{one['parsed']:,}" for one in found)
    return (
        f"| {how} | {parsed} | {most['read']:.1f} | {most['ready']:.1f} | {most['peak']:,.0f} |"
        f" {most['held']:,.0f} |"
    )


def get_ready(folder: Path, csv_file: str, *, shared: bool) -> None:
    """One process: what `mismatch train` does with its rows before the first step; its figures are
    written to `folder`. Unless `shared`, as one alone does.
    """
    import pyarrow as pa  # noqa: F401  its memory is not the rows'

    from mismatch.data.readers import csv as csv_rows
    from mismatch.runtime.tokenize import Tokenizer
    from mismatch.training.config import TrainConfig
    from mismatch.training.distributed.processes import Processes
    from mismatch.training.feeds.feeds import PixelFeed, PixelStore
    from mismatch.training.feeds.prepare import cut_long_texts, load_sets, load_start
    from mismatch.training.folder.resume import rows_digest

    processes = Processes.start("cpu")
    config = TrainConfig(train_csv=csv_file, model_name="tiny")
    start, parsed = load_start(config), Counter(csv_rows._row)
    module: Any = csv_rows
    module._row = parsed
    team = processes if shared else Processes(processes.device)
    before, began = memory("VmRSS"), time.perf_counter()
    sets = [pairs for pairs in load_sets(config, team) if pairs is not None]
    rows_digest(sets, str(config.image_base_path), team)
    read = time.perf_counter() - began
    sets, _ = cut_long_texts(start, sets, team)
    backbone = start.detector.backbone
    feeds = [
        PixelFeed(pairs, PixelStore(backbone.image_spec), Tokenizer(backbone.text_spec), 1, team)
        for pairs in sets
    ]
    said = {
        "read": read,
        "ready": time.perf_counter() - began,
        "peak": memory("VmHWM") - before,
        "held": memory("VmRSS") - before,
        "parsed": parsed.count,
    }
    (folder / f"said.{processes.index}.json").write_text(json.dumps(said))
    processes.wait()
    del feeds


class Counter:
    """A function that counts its calls."""

    def __init__(self, function: object) -> None:
        self.function, self.count = function, 0

    def __call__(self, *arguments: object) -> object:
        self.count += 1
        return self.function(*arguments)  # type: ignore[operator]


def memory(name: str) -> float:
    """Of this process, MB; by Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1000


if __name__ == "__main__":
    main()
