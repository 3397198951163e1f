"""The audit of a large set: `mismatch validate` on a million rows over twenty thousand images, its
rates and its memory.

    python benchmarks/bench_audit.py [--rows 1000000] [--images 20000] [--size 224] [--json
    results.json]

Drawn photos and texts of ten words; every row is read, every image decoded and compared with all
others, as with the extra [audit].
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from bench_engines import machine
from bench_pipeline import watch
from bench_training import draw_rows

GB = 1e9  # bytes
TARGET = 2.0  # GB


@click.command()
@click.option("--rows", default=1_000_000, show_default=True, help="Rows of the CSV.")
@click.option("--images", default=20_000, show_default=True, help="Images that they name.")
@click.option("--texts", type=int, help="Distinct texts.  [default: half the rows]")
@click.option("--size", default=224, show_default=True, help="Side of the photos, pixels.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here too."
)
def main(rows: int, images: int, texts: int | None, size: int, json_file: Path | None) -> None:
    """Print rows a second, images a second, and the peak of anonymous memory."""
    with tempfile.TemporaryDirectory() as place:
        csv_file = draw_rows(
            Path(place) / "rows",
            rows,
            size,
            images=min(images, rows),
            texts=texts or max(1, rows // 2),
        )
        result = audit(csv_file, rows, min(images, rows)) | {
            "photo_pixels": size,
            "machine": machine(2),
        }
    click.echo(
        f"{rows:,} rows over {result['images']:,} images: {result['seconds']:.0f} s"
        f" ({rows / result['seconds']:,.0f} rows/s; reading alone"
        f" {rows / result['read_seconds']:,.0f} rows/s), {result['images_per_second']:,.0f}"
        f" images/s, peak {result['peak_bytes'] / GB:.2f} GB (target {TARGET})"
    )
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def audit(csv_file: Path, rows: int, images: int) -> dict[str, Any]:
    """Seconds and the peak of anonymous memory, bytes, of the command; reading alone is timed
    without it, on the same rows.
    """
    start = time.perf_counter()
    read = (
        "import sys\nfrom mismatch.data.pairs import scan_rows\nfor row in scan_rows(sys.argv[1],"
        " print): pass"
    )
    subprocess.run([sys.executable, "-c", read, str(csv_file)], check=True)
    read_seconds = time.perf_counter() - start
    report = csv_file.with_name("report.json")
    command = [
        sys.executable,
        "-m",
        "mismatch",
        "validate",
        str(csv_file),
        "--image-base-path",
        str(csv_file.parent),
        "--report",
        str(report),
    ]
    start = time.perf_counter()
    peak = max(size for size, _ in watch(command))
    seconds = time.perf_counter() - start
    found = json.loads(report.read_text(encoding="utf-8"))["files"][0]
    if found["rows"] != rows or found["images"] != images:
        raise click.ClickException(
            f"the audit saw {found['rows']:,} rows and {found['images']:,} images"
        )
    return {
        "rows": rows,
        "images": images,
        "texts": found["texts"],
        "seconds": seconds,
        "read_seconds": read_seconds,
        "images_per_second": images / (seconds - read_seconds),
        "peak_bytes": peak,
    }


if __name__ == "__main__":
    main()
