"""Many processes: `predict --engine ray` with one and two actors against the local engine, one
thread each, in turns.

    python benchmarks/bench_ray.py --model bundle --csv photos/test.csv --image-base-path photos
    --rows 600

A job is timed from the command to its end; `startup` is that of a job of one row, which a longer
one pays once.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

CONTENDERS = {
    "local": [],
    "ray, 1 actor": ["--engine", "ray", "--actors", "1"],
    "ray, 2 actors": ["--engine", "ray", "--actors", "2"],
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--image-base-path", default="")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--block-rows", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    seconds: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.repeats):
            for rows in (1, args.rows):
                for name in CONTENDERS:
                    seconds.setdefault((name, rows), []).append(
                        _timed(args, name, rows, Path(folder))
                    )
    base = _rate(seconds, "local", args.rows)
    print(
        "| engine | startup, s | pairs/s after it | times local | overhead per row, ms"
        " |\n|---|---|---|---|---|"
    )
    for name in CONTENDERS:
        rate = _rate(seconds, name, args.rows)
        actors = 2 if "2" in name else 1
        print(
            f"| {name} | {statistics.median(seconds[name, 1]):.1f} | {rate:.1f} | {rate / base:.2f}"
            f" | {1000 * (actors / rate - 1 / base):.2f} |"
        )


def _rate(seconds: dict[tuple[str, int], list[float]], name: str, rows: int) -> float:
    """Pairs/s of what comes behind the start."""
    return (rows - 1) / (
        statistics.median(seconds[name, rows]) - statistics.median(seconds[name, 1])
    )


def _timed(args: argparse.Namespace, name: str, rows: int, folder: Path) -> float:
    """Seconds of one job on the first `rows` lines."""
    table, output = folder / "rows.csv", folder / ("local.parquet" if name == "local" else "parts")
    with args.csv.open(encoding="utf-8") as file:
        table.write_text("".join(islice(file, rows + 1)), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "mismatch",
        "predict",
        "--model",
        args.model,
        "--csv",
        table,
        "--image-base-path",
        args.image_base_path,
    ]
    command += ["--threads", "1", "--num-workers", "1", "--output", output, *CONTENDERS[name]]
    begin = time.perf_counter()
    subprocess.run(
        [*command, *(["--block-rows", str(args.block_rows)] if name != "local" else [])],
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
