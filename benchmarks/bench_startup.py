"""How long `mismatch --help` and its like take from process start to exit, and what they load:
`python benchmarks/bench_startup.py`.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

COMMANDS = (
    ["--version"],
    ["--help"],
    ["train", "--help"],
    ["predict", "--help"],
    ["backbones", "list"],
)
HEAVY = ("torch", "transformers", "open_clip", "onnx", "onnxruntime", "numpy", "PIL")
TARGET = 0.4  # seconds, median
LIST_MODULES = """
import sys
from mismatch.cli import main
try:
    main({args!r})
except SystemExit:
    print(*sorted(set({heavy!r}) & set(sys.modules)), file=sys.stderr)
"""


def main() -> None:
    """Measure, print a table, write JSON where asked, exit 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    rows = [measure(args, options.runs) for args in COMMANDS]
    print(
        f"python {platform.python_version()}, {options.runs} runs each; target: median at most"
        f" {TARGET} s\n"
    )
    print("| command | min s | median s | heavy modules loaded |\n|---|---|---|---|")
    for row in rows:
        print(
            f"| `mismatch {row['command']}` | {row['min']:.3f} | {row['median']:.3f} |"
            f" {', '.join(row['heavy']) or 'none'} |"
        )
    if options.output:
        options.output.write_text(
            json.dumps(
                {
                    "python": platform.python_version(),
                    "runs": options.runs,
                    "target": TARGET,
                    "rows": rows,
                },
                indent=2,
            )
            + "\n"
        )
    sys.exit(any(row["median"] > TARGET for row in rows))


def measure(args: list[str], runs: int) -> dict[str, Any]:
    """One warm-up, then `runs` fresh processes; seconds."""
    command = [sys.executable, "-m", "mismatch", *args]
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - start)
    return {
        "command": " ".join(args),
        "min": min(times[1:]),
        "median": median(times[1:]),
        "heavy": heavy_modules(args),
    }


def heavy_modules(args: list[str]) -> list[str]:
    """Which of the heavy modules one command line leaves in `sys.modules`."""
    code = LIST_MODULES.format(args=args, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[-1].split()


if __name__ == "__main__":
    main()
