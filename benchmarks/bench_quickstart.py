"""How good and how fast `mismatch quickstart` is, seed by seed:
`python benchmarks/bench_quickstart.py [--seeds 0,1,2] [--json results.json]`.

Each seed runs in a process of its own, as users run it. `probe` is what `probe_seconds` measures
before the first step, from which quickstart says how long it will take (KNOWN_SECONDS and
KNOWN_PROBE in mismatch/jobs/quickstart_model.py).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ACCURACY = 0.95  # target, held out
KIND = 0.85  # target, each kind of row
SECONDS = 150.0  # target, all steps


def main() -> None:
    """Measure, print a table, write JSON where asked, exit 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2", help="by comma")
    parser.add_argument("--json", type=Path, help="JSON file to write")
    options = parser.parse_args()
    rows = [measure(int(seed)) for seed in options.seeds.split(",")]
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    sys.exit(not all(meets_targets(row) for row in rows))


def measure(seed: int) -> dict[str, Any]:
    """Run quickstart once; return what it measured, with its seconds of CPU and wall clock."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        command = ["quickstart", "--dir", f"{folder}/q", "--seed", str(seed)]
        subprocess.run(
            [sys.executable, "-m", "mismatch", *command], check=True, stdout=subprocess.DEVNULL
        )
        wall = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        measured: dict[str, Any] = json.loads(Path(folder, "q", "quickstart.json").read_text())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seed": seed, "wall": wall, "cpu": cpu} | measured


def meets_targets(row: dict[str, Any]) -> bool:
    """Return whether accuracy, each kind and the time are as promised."""
    kinds = [kind["accuracy"] for kind in row["held_out"]["by_kind"].values()]
    return bool(
        row["held_out"]["accuracy"] >= ACCURACY and min(kinds) >= KIND and row["wall"] <= SECONDS
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table, a line for each seed."""
    kinds = list(rows[0]["held_out"]["by_kind"])
    names = ["seed", "seconds", "CPU seconds", "training", "probe", "accuracy", "AUROC", *kinds]
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for row in rows:
        held_out = row["held_out"]
        cells = [
            str(row["seed"]),
            f"{row['wall']:.0f}",
            f"{row['cpu']:.0f}",
            f"{row['seconds']['train']:.0f}",
            f"{row['probe_seconds']:.3f}",
            f"{held_out['accuracy']:.4f}",
            f"{held_out['auroc']:.4f}",
            *(f"{held_out['by_kind'][kind]['accuracy']:.1%}" for kind in kinds),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
