"""`mismatch serve` under load: CPU time a pair beside the batch predictor's, latency, memory, what
becomes of three times the load, what it costs to decode in processes of their own, and how long a
client waits next to eight hostile ones.

    python benchmarks/bench_serving.py --csv test.csv --image-base-path photos/ [--model bundle]
    [--seconds 60] [--json results.json]

Without --model a ViT-B/32 with random weights in int8 is exported (speed does not depend on them;
needs the extra [train]). Every request has an image and a text of its own: the rows of the CSV in
turns, with a few bytes behind the image's end and a number behind the text, so that nothing is
encoded twice for free. The clients run in this process; what counts is the CPU time of the server's
and its workers. Linux only: CPU time and memory are read from /proc.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from socket import socket
from typing import Any

import click
import hostile_pictures as hostile
import numpy as np

from mismatch.data.pairs import read_rows

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
BATCH_PREDICTOR = """
import json, sys, time
from pathlib import Path
from mismatch.runtime.predictor import load
from benchmarks.bench_serving import Pairs
model, csv, base, count, threads = sys.argv[1:]
pairs = Pairs(Path(csv), Path(base))
rows = [{"image": image, "text": text} for image, text in (pairs.pair(i) for i in range(int(count)))]
predictor = load(model, "cpu", int(threads))
list(predictor.predict_pairs(rows[:32]))
start, cpu = time.perf_counter(), time.process_time()
scored = sum(one.similarity_score is not None for one in predictor.predict_pairs(rows[32:]))
print(json.dumps({"pairs": scored, "seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}))
"""
PROGRAM = (
    "import mismatch.serving.images as images; images.can_isolate = lambda: {isolated}; from"
    " mismatch.cli import main; main()"
)


@click.command()
@click.option(
    "--model", help="Folder of a bundle.  [default: a ViT-B/32 with random weights in int8]"
)
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="Rows image_path,text.",
)
@click.option(
    "--image-base-path",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Folder of the images.",
)
@click.option(
    "--clients",
    default=32,
    show_default=True,
    help="That ask at the same time, each as soon as it has its answer.",
)
@click.option("--seconds", default=60.0, show_default=True, help="Of each load.")
@click.option("--threads", default=2, show_default=True, help="Threads of the towers.")
@click.option(
    "--pairs",
    default=1500,
    show_default=True,
    help="Of the batch predictor, before and after the load.",
)
@click.option("--turns", default=2, show_default=True, help="Of both ways to decode.")
@click.option(
    "--settings",
    "settings",
    default="{}",
    help="JSON of the service's settings, over those of this benchmark.",
)
@click.option("--tiny", is_flag=True, help="A tiny model: to see that it runs.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here too."
)
def main(
    model: str | None,
    csv_file: Path,
    image_base_path: Path,
    clients: int,
    seconds: float,
    threads: int,
    pairs: int,
    turns: int,
    settings: str,
    tiny: bool,
    json_file: Path | None,
) -> None:
    """Print what was measured."""
    with tempfile.TemporaryDirectory() as folder:
        found = model or export(Path(folder), tiny)
        rows = Pairs(csv_file, image_base_path)
        batch = [batch_predictor(found, csv_file, image_base_path, pairs, threads)]
        rate = batch[0]["pairs"] / batch[0]["seconds"]
        own = {
            "threads": threads,
            "max_wait": max(0.1, round(1.5 * clients / rate, 2)),
        }  # seconds: these clients wait for less, three times as many would for more
        file = Path(folder) / "settings.json"
        file.write_text(json.dumps(own | json.loads(settings)), encoding="utf-8")
        with serving(found, file) as server:
            asyncio.run(load(server, rows, clients, min(5.0, seconds)))  # warm
            usual = asyncio.run(load(server, rows, clients, seconds))
            heavy = asyncio.run(load(server, rows, 3 * clients, seconds / 2))
            after = asyncio.run(load(server, rows, clients, min(5.0, seconds)))
        batch.append(batch_predictor(found, csv_file, image_base_path, pairs, threads))
        isolation = compare_isolation(found, file, rows, clients, seconds / 2, turns)
        patient = Path(folder) / "patient.json"
        patient.write_text(
            json.dumps({"threads": threads} | json.loads(settings)), encoding="utf-8"
        )
        with serving(found, patient) as server:
            waits = asyncio.run(beside_hostile(server, rows, seconds / 2))
    results = {
        "settings": own | json.loads(settings),
        "batch predictor": {
            "cpu_ms": 1000 * float(np.mean([one["cpu"] / one["pairs"] for one in batch])),
            "pairs_per_s": [one["pairs"] / one["seconds"] for one in batch],
        },
        "usual": usual.figures(),
        "heavy": heavy.figures(),
        "after": after.figures(),
        "isolation": isolation,
        "beside hostile pictures": waits,
    }
    click.echo(report(results, clients))
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


class Pairs:
    """As many different pairs as one wants, of the rows of a CSV."""

    def __init__(self, csv_file: Path, base: Path) -> None:
        found: dict[str, str] = {}
        for row in read_rows(csv_file, require_label=False):
            if row.problem is None:
                found.setdefault(row.image_path, row.text)
        self._rows = [
            ((base / path).read_bytes(), text) for path, text in list(found.items())[:512]
        ]

    def pair(self, number: int) -> tuple[bytes, str]:
        """The image with its number behind its end, where no decoder looks, and the
        text with it.
        """
        image, text = self._rows[number % len(self._rows)]
        return image + number.to_bytes(4, "big"), f"{text} {number}"

    def request(self, number: int) -> bytes:
        """POST /v1/predict as a form."""
        image, text = self.pair(number)
        boundary = b"a-line-between-parts"
        body = (
            b'--%s\r\ncontent-disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n%s\r\n'
            % (boundary, image)
        )
        body += b'--%s\r\ncontent-disposition: form-data; name="text"\r\n\r\n%s\r\n--%s--\r\n' % (
            boundary,
            text.encode(),
            boundary,
        )
        head = (
            b"POST /v1/predict HTTP/1.1\r\nhost: a\r\ncontent-type: multipart/form-data;"
            b" boundary=%s\r\ncontent-length: %d\r\n\r\n"
        )
        return head % (boundary, len(body)) + body


@dataclass
class Load:
    """What came of a load."""

    accepted: list[float] = field(default_factory=list)  # seconds
    refused: list[float] = field(default_factory=list)  # seconds
    other: list[bytes] = field(default_factory=list)  # answers that are neither 200 nor 503
    memory: list[float] = field(default_factory=list)  # MB, every two seconds
    cpu: float = 0.0  # seconds, of the server
    seconds: float = 0.0

    def figures(self) -> dict[str, Any]:
        """For the report."""
        quarter = max(1, len(self.memory) // 4)
        return {
            "pairs": len(self.accepted),
            "pairs_per_s": len(self.accepted) / self.seconds,
            "cpu_ms": 1000 * self.cpu / max(1, len(self.accepted)),
            "refused": len(self.refused),
            "errors": len(self.other),
            "first_error": self.other[0].decode(errors="replace") if self.other else "",
            "p50_ms": percentile(self.accepted, 50),
            "p95_ms": percentile(self.accepted, 95),
            "refused_p95_ms": percentile(self.refused, 95),
            "refused_max_ms": percentile(self.refused, 100),
            "memory_mb": [
                float(np.mean(self.memory[quarter : 2 * quarter] or self.memory)),
                float(np.mean(self.memory[-quarter:])),
            ],
        }


def percentile(seconds: list[float], share: int) -> float:
    """Milliseconds; 0 of nothing."""
    return 1000 * float(np.percentile(seconds, share)) if seconds else 0.0


NUMBERS = count()


async def load(server: Server, rows: Pairs, clients: int, seconds: float) -> Load:
    """So many clients, each of which asks again as soon as it is answered, or after the Retry-After
    of a refusal.
    """
    found = Load()
    until = time.perf_counter() + seconds
    cpu, start = server.cpu, time.perf_counter()
    watch = asyncio.create_task(watch_memory(server, found, until))
    await asyncio.gather(*(client(server.port, rows, until, found) for _ in range(clients)))
    found.cpu, found.seconds = server.cpu - cpu, time.perf_counter() - start
    await watch
    return found


async def watch_memory(server: Server, found: Load, until: float) -> None:
    """Note it every two seconds."""
    while time.perf_counter() < until:
        found.memory.append(server.memory)
        await asyncio.sleep(min(2.0, max(0.1, until - time.perf_counter())))


async def client(port: int, rows: Pairs, until: float, found: Load) -> None:
    """One, on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        request = rows.request(next(NUMBERS))
        start = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        lines = dict(
            line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if b": " in line
        )
        body = await reader.readexactly(int(lines[b"content-length"]))
        took, status = time.perf_counter() - start, head.split(b" ", 2)[1]
        if status == b"200" and b'"status":"ok"' in body:
            found.accepted.append(took)
        elif status == b"503":
            found.refused.append(took)
            await asyncio.sleep(float(lines[b"retry-after"]) * random.uniform(0.5, 1.0))
        else:
            found.other.append(body)
    writer.close()


def compare_isolation(
    model: str, settings: Path, rows: Pairs, clients: int, seconds: float, turns: int
) -> dict[str, list[float]]:
    """Pairs a second with images decoded in the service's process and in others, in turns."""
    found: dict[str, list[float]] = {
        "in the service's process": [],
        "in processes of their own": [],
    }
    for _ in range(turns):
        for name, rates in found.items():
            with serving(model, settings, isolated=name == "in processes of their own") as server:
                asyncio.run(load(server, rows, clients, min(5.0, seconds)))  # warm
                rates.append(
                    asyncio.run(load(server, rows, clients, seconds)).figures()["pairs_per_s"]
                )
    return found


HOSTILE: dict[
    str, Callable[[], bytes]
] = {  # one a client; some pass all counts, and take what their pixels take
    "a JPEG of 3,000 scans": lambda: hostile.jpeg_of_scans(7_000, 3_000),
    "a JPEG of 400,000 segments": lambda: hostile.jpeg_of_exif(400_000),
    "a JPEG of 64 scans": lambda: hostile.jpeg_of_scans(7_000, 64),
    "a GIF of 97,000 comments": lambda: hostile.gif_of_comments(97_000),
    "a TIFF of 2,600 tiles": lambda: hostile.tiff_of_tiles(2_600),
    "a PNG of 600,000 chunks": lambda: hostile.png_of_chunks(600_000),
    "a PNG of 49 megapixels": lambda: hostile.png_of_zeros(7_000),
    "a BMP of 16 megapixels in runs": lambda: hostile.bmp_of_runs(4_000),
}


async def beside_hostile(server: Server, rows: Pairs, seconds: float) -> dict[str, Any]:
    """One client alone, then next to eight that send a hostile picture each, again as soon as it is
    answered.
    """
    alone, beside, answers = Load(), Load(), Load()
    await client(server.port, rows, time.perf_counter() + seconds / 2, alone)
    pictures = [make() for make in HOSTILE.values()]
    until = time.perf_counter() + seconds
    await asyncio.gather(
        client(server.port, rows, until, beside),
        *(client(server.port, Same(picture), until, answers) for picture in pictures),
    )
    return {
        "alone_ms": [percentile(alone.accepted, share) for share in (50, 95, 100)],
        "beside_ms": [percentile(beside.accepted, share) for share in (50, 95, 100)],
        "hostile_requests": len(answers.accepted) + len(answers.other) + len(answers.refused),
        "not_answered": len(beside.refused) + len(beside.other),
    }


class Same(Pairs):
    """One picture, but for its last bytes."""

    def __init__(self, picture: bytes) -> None:
        self._rows = [(picture, "a red bag")]


@dataclass
class Server:
    """A running `mismatch serve`."""

    pid: int
    port: int

    @property
    def cpu(self) -> float:
        """Seconds so far, of all its threads and those of the processes that decode, ended ones
        too.
        """
        return sum(sum(map(int, stat(pid)[11:15])) for pid in processes(self.pid)) / TICKS

    @property
    def memory(self) -> float:
        """MB that are resident, of the processes that decode too; what these share counts several
        times.
        """
        return sum(int(stat(pid)[21]) for pid in processes(self.pid)) * PAGE / 1e6


def stat(pid: int) -> list[str]:
    """What the system tells of a process, from its state on; zeros of one that
    has ended meanwhile.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["0"] * 30


def processes(pid: int) -> list[int]:
    """It, and all below it."""
    tasks = Path(f"/proc/{pid}/task")
    below = [one for task in (tasks.iterdir() if tasks.exists() else ()) for one in children(task)]
    return [pid, *(one for child in below for one in processes(child))]


def children(task: Path) -> list[int]:
    """Of one thread; none of one that has ended meanwhile."""
    try:
        return [int(child) for child in (task / "children").read_text().split()]
    except FileNotFoundError:
        return []


@contextmanager
def serving(model: str, settings: Path, *, isolated: bool = True) -> Iterator[Server]:
    """The service as a process, ready; as on a system that can't fork, if it isn't isolated."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-c",
        PROGRAM.format(isolated=isolated),
        "serve",
        "--model",
        model,
        "--settings",
        str(settings),
        "--port",
        str(port),
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not listens(port):
            if process.poll() is not None:
                raise click.ClickException(
                    f"the service ended with {process.returncode}; start it by hand to see why:"
                    f" {' '.join(command)}"
                )
            time.sleep(0.1)
        try:
            yield Server(process.pid, port)
        finally:
            process.terminate()


def listens(port: int) -> bool:
    """Whether anybody does."""
    with socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0


def batch_predictor(
    model: str, csv_file: Path, base: Path, pairs: int, threads: int
) -> dict[str, Any]:
    """`predict_pairs` in a process of its own, without its start."""
    command = [
        sys.executable,
        "-c",
        BATCH_PREDICTOR,
        model,
        str(csv_file),
        str(base),
        str(pairs + 32),
        str(threads),
    ]
    root = Path(__file__).resolve().parent.parent
    paths = os.pathsep.join(
        filter(None, [str(root), str(root / "benchmarks"), os.environ.get("PYTHONPATH")])
    )
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": paths}
    )
    return dict(json.loads(done.stdout))


def export(folder: Path, tiny: bool) -> str:
    """A bundle in int8 with random weights."""
    from mismatch.export.gate import GateLimits
    from mismatch.export.onnx import Rows, export_bundle
    from mismatch.export.parity import built_in_pairs
    from mismatch.training.engine import open_backbone

    engine = open_backbone(f"openclip:{'tiny' if tiny else 'ViT-B-32/untrained'}", provider="cpu")
    export_bundle(
        engine,
        folder / "bundle",
        precision="int8",
        rows=Rows(built_in_pairs(), "built-in pairs"),
        limits=GateLimits(1, 1),
    )
    return str(folder / "bundle")


def report(results: dict[str, Any], clients: int) -> str:
    """A table for people, and the first error of each load."""
    batch = results["batch predictor"]
    rates = ", ".join(f"{rate:.1f}" for rate in batch["pairs_per_s"])
    lines = [
        (
            f"batch predictor: {batch['cpu_ms']:.1f} ms of CPU a pair; {rates} pairs/s before and"
            " after"
        ),
        f"settings: {json.dumps(results['settings'])}",
        (
            "| clients | pairs/s | CPU a pair, ms | times the batch predictor's | accepted p50, ms"
            " | p95 | refused | p95, ms | at most | errors | memory, MB |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, number in (("usual", clients), ("heavy", 3 * clients), ("after", clients)):
        one = results[name]
        figures = [
            str(number),
            f"{one['pairs_per_s']:.1f}",
            f"{one['cpu_ms']:.1f}",
            f"{one['cpu_ms'] / batch['cpu_ms']:.2f}",
            f"{one['p50_ms']:.0f}",
        ]
        figures += [
            f"{one['p95_ms']:.0f}",
            str(one["refused"]),
            f"{one['refused_p95_ms']:.0f}",
            f"{one['refused_max_ms']:.0f}",
            str(one["errors"]),
        ]
        lines.append(
            f"| {' | '.join(figures)} | {one['memory_mb'][0]:.0f}, {one['memory_mb'][1]:.0f} |"
        )
    lines += ["", "| images are decoded | pairs/s, in turns |", "|---|---|"]
    lines += [
        f"| {where} | {', '.join(f'{rate:.1f}' for rate in rates)} |"
        for where, rates in results["isolation"].items()
    ]
    waits = results["beside hostile pictures"]
    lines += ["", "| a client waits, ms | p50 | p95 | at most |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {' | '.join(f'{value:.0f}' for value in waits[key])} |"
        for name, key in (("alone", "alone_ms"), ("next to eight", "beside_ms"))
    ]
    lines.append(
        f"{waits['hostile_requests']} hostile requests were answered meanwhile;"
        f" {waits['not_answered']} of the client's were not"
    )
    return "\n".join(
        lines
        + [
            results[name]["first_error"]
            for name in ("usual", "heavy", "after")
            if results[name]["first_error"]
        ]
    )


if __name__ == "__main__":
    main()
