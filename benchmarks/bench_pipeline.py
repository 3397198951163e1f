"""The whole job from CSV to CSV, by the size of the photos; the start of a new process; and memory
over a million rows.

    python benchmarks/bench_pipeline.py [--rows 128] [--sizes 224,1000] [--repeats 3] [--json
    results.json]
    python benchmarks/bench_pipeline.py --large 1000000        # memory of `mismatch predict` on so
    many rows, and nothing else

ViT-B/32 with random weights and drawn photos, each row with an image and a text of its own, so that
nothing is won by encoding what repeats only once. Contenders take turns in one run. The large case
runs a tiny model with ViT-B/32's width of embeddings: it measures memory, not speed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from bench_engines import in_turns, machine, open_model, plain_loop, predict
from bench_training import anonymous, draw_rows
from contenders import job_contenders

GB = 1e9  # bytes
LARGE_IMAGES, LARGE_TEXTS = 10_000, 200_000
WIDTH = 512  # of ViT-B/32's embeddings, which is what is remembered
EARLY = 0.1  # share of the rows after which memory should not grow any more
START = (
    "import sys, mismatch; print(mismatch.load(sys.argv[1], 'cpu',"
    " int(sys.argv[2])).predict(sys.argv[3], 'red shirt for women').similarity_score)"
)


@click.command()
@click.option("--rows", default=128, show_default=True, help="Rows of a turn.")
@click.option("--sizes", default="224,1000", show_default=True, help="Sides of the photos, pixels.")
@click.option(
    "--repeats", default=3, show_default=True, help="Turns of each contender; the median counts."
)
@click.option("--threads", default=2, show_default=True, help="Threads of each engine.")
@click.option("--large", type=int, help="Only the memory of predicting so many rows.")
@click.option("--tiny", is_flag=True, help="Tiny models instead of ViT-B/32: to see that it runs.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here too."
)
def main(
    rows: int,
    sizes: str,
    repeats: int,
    threads: int,
    large: int | None,
    tiny: bool,
    json_file: Path | None,
) -> None:
    """Print rates, ratios, seconds to the first score and peaks."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        results: dict[str, Any] = {"machine": machine(threads)}
        models = open_model(
            "hf-clip", folder, threads, tiny or large is not None, None if large is None else WIDTH
        )
        if large is not None:
            results["large"] = bench_large(folder, large, threads)
        else:
            results["jobs"] = [
                bench_job(models, folder, rows, int(size), repeats) for size in sizes.split(",")
            ]
            results["start"] = bench_start(folder, threads, repeats)
    click.echo(report(results))
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def bench_job(
    models: dict[str, Any], folder: Path, count: int, size: int, repeats: int
) -> dict[str, Any]:
    """Pairs a second."""
    rows = draw_rows(folder / f"photos-{size}", count, size)
    (folder / str(size)).mkdir()
    base, plain = rows.parent, models["torch"]
    contenders: dict[str, Callable[[], object]] = {
        "plain transformers loop, padded to 77": lambda: plain_loop(
            plain, rows, base, folder / "plain.csv"
        )
    }
    contenders |= job_contenders(plain, rows, base, folder / str(size))
    for name, engine in models.items():
        contenders[f"mismatch, {name}"] = partial(predict, engine, rows, base, folder / "ours.csv")
    seconds = in_turns(contenders, repeats)
    return {
        "size": size,
        "rows": count,
        "pairs_per_second": {name: count / value for name, value in seconds.items()},
    }


def bench_start(folder: Path, threads: int, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds from the start of a process to its first score, its peak anonymous memory, and the
    bundle's size; bytes.
    """
    image = next(folder.glob("photos-*/0.jpg"))
    found: dict[str, dict[str, float]] = {}
    for bundle in sorted(folder.glob("hf-clip-*")):
        seconds, peaks = [], []
        for _ in range(repeats):
            start = time.perf_counter()
            peaks.append(
                max(
                    size
                    for size, _ in watch(
                        [sys.executable, "-c", START, str(bundle), str(threads), str(image)]
                    )
                )
            )
            seconds.append(time.perf_counter() - start)
        size = sum(file.stat().st_size for file in bundle.iterdir())
        found[bundle.name.removeprefix("hf-clip-")] = {
            "seconds": sorted(seconds)[len(seconds) // 2],
            "bytes": max(peaks),
            "bundle_bytes": size,
        }
    return found


def bench_large(folder: Path, count: int, threads: int) -> dict[str, float]:
    """Anonymous memory of `mismatch predict`, bytes: the largest until a tenth of the rows is
    written, and afterwards.
    """
    rows = draw_rows(
        folder / "large", count, 64, images=min(count, LARGE_IMAGES), texts=min(count, LARGE_TEXTS)
    )
    output, part = folder / "out.csv", folder / "out.csv.part"
    command = [
        "predict",
        "--model",
        str(folder / "hf-clip-int8"),
        "--csv",
        str(rows),
        "--image-base-path",
        str(rows.parent),
        "--output",
        str(output),
    ]
    start = time.perf_counter()
    sizes = watch(
        [sys.executable, "-m", "mismatch", *command, "--threads", str(threads)],
        lambda: part.stat().st_size if part.exists() else None,
    )
    seconds = time.perf_counter() - start
    written = output.stat().st_size
    early = max(size for size, at in sizes if at is not None and at <= EARLY * written)
    late = max(size for size, at in sizes if at is not None and at > EARLY * written)
    images, texts = min(count, LARGE_IMAGES), min(count, LARGE_TEXTS)
    return {
        "rows": count,
        "images": images,
        "texts": texts,
        "early_bytes": early,
        "late_bytes": late,
        "seconds": seconds,
    }


def watch(
    command: list[str], mark: Callable[[], int | None] = lambda: None
) -> list[tuple[float, int | None]]:
    """Run a process; its anonymous memory, bytes, every so often, and what `mark` says then."""
    seen: list[tuple[float, int | None]] = [(0.0, None)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            try:
                now = mark()
            except OSError:  # renamed just now
                now = None
            seen.extend((size, now) for size in anonymous(process.pid))
            time.sleep(0.01)
    if process.returncode:
        raise click.ClickException(
            f"{' '.join(command[:4])} … ended with exit code {process.returncode}"
        )
    return seen


def report(results: dict[str, Any]) -> str:
    """The figures as Markdown tables."""
    lines = [
        "",
        "machine: " + ", ".join(f"{key} {value}" for key, value in results["machine"].items()),
    ]
    for job in results.get("jobs", []):
        plain = next(iter(job["pairs_per_second"].values()))
        lines += [
            "",
            (
                f"| {job['rows']} rows, all different, photos of {job['size']} pixels | pairs/s |"
                " times the plain loop |"
            ),
            "|---|---|---|",
        ]
        lines += [
            f"| {name} | {rate:.1f} | {rate / plain:.2f} |"
            for name, rate in job["pairs_per_second"].items()
        ]
    if start := results.get("start"):
        lines += [
            "",
            "| bundle | first score after, s | peak memory, GB | size, MB |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {at['seconds']:.2f} | {at['bytes'] / GB:.2f} |"
            f" {at['bundle_bytes'] / 1e6:.0f} |"
            for name, at in start.items()
        ]
    if large := results.get("large"):
        of = f"{large['rows']:,} rows, {large['images']:,} images, {large['texts']:,} texts"
        memory = (
            f"{large['early_bytes'] / GB:.2f} GB until a tenth was written,"
            f" {large['late_bytes'] / GB:.2f} GB afterwards"
        )
        lines += ["", f"{of}: {memory}; {large['seconds']:.0f} s"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
