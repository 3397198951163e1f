"""How fast images are fetched by their URLs, from a local server that takes its time for each and
fails for some; whether each is fetched once, and each failure is told by its row.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import multiprocessing
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

import mismatch

FAILURES = ("missing", "page", "broken", "gone")  # what is planted, one after the other
TARGET = 300.0  # images a second


def main() -> None:
    """Fetch, count, fetch again, and print a table; exit 1 where a promise or the target fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--urls", type=int, default=2_000)
    parser.add_argument("--delay", type=float, default=0.05, help="seconds a request")
    parser.add_argument("--failing", type=float, default=0.05, help="share of URLs that fail")
    parser.add_argument("--side", type=int, default=512, help="pixels of an image's side")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(
        target=serve_until_told, args=(theirs, options.delay, options.side), daemon=True
    )
    server.start()
    port = ours.recv()
    kinds = planted(options.urls, options.failing)
    with TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.csv"
        write_rows(rows, port, kinds)
        good = measured(rows, Path(folder) / "images", kinds, ours)
    ours.send(None)
    server.join()
    sys.exit(0 if good else 1)


def planted(count: int, share: float) -> list[str]:
    """The kind of each URL, failures spread evenly."""
    kinds = ["image"] * count
    failing = np.linspace(0, count - 1, round(count * share)).round().astype(int)
    for number, place in enumerate(failing.tolist()):
        kinds[place] = FAILURES[number % len(FAILURES)]
    return kinds


def write_rows(path: Path, port: int, kinds: list[str]) -> None:
    """A row for each URL."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image_path", "text"))
        for number, kind in enumerate(kinds):
            writer.writerow((f"http://localhost:{port}/{kind}/{number}.jpg", f"article {number}"))


def measured(rows: Path, output: Path, kinds: list[str], server: Connection) -> bool:
    """Print what two calls take; whether all promises were kept."""
    seconds = []
    results = []
    requests = []
    came = []  # seconds from the first request to the last image's
    for _ in range(2):
        server.send("requests")
        server.recv()
        start = time.perf_counter()
        results.append(mismatch.fetch(rows, output, fetch_networks=("127.0.0.0/8", "::1/128")))
        seconds.append(time.perf_counter() - start)
        server.send("requests")
        counts, took = server.recv()
        requests.append(counts)
        came.append(took)
    images = kinds.count("image")
    rate = results[0].fetched / came[0]
    twice = sum(1 for path, count in requests[0].items() if "/image/" in path and count > 1)
    again = sum(count for path, count in requests[1].items() if "/image/" in path)
    with (output / "rows.failed.csv").open(encoding="utf-8", newline="") as file:
        told = {int(row["line"]) - 2 for row in csv.DictReader(file) if row["reason"]}
    failing = {number for number, kind in enumerate(kinds) if kind != "image"}
    print("| what | figure |")
    print("|---|---|")
    print(f"| images fetched | {results[0].fetched:,} of {images:,} |")
    print(f"| seconds until the last image came, images a second | {came[0]:.2f}, {rate:.0f} |")
    print(f"| seconds in all, with pauses before failures are tried again | {seconds[0]:.2f} |")
    print(f"| images fetched twice | {twice} |")
    print(f"| failures planted, told by their row | {len(failing)}, {len(failing & told)} |")
    print(f"| rows told that were to succeed | {len(told - failing)} |")
    print(f"| second call: seconds, images fetched | {seconds[1]:.2f}, {again} |")
    kept = results[0].fetched == images and not twice and not again and told == failing
    return kept and rate >= TARGET


def serve_until_told(line: Connection, delay: float, side: int) -> None:
    """Be the server, in a process of its own: answers by path, and counts requests."""
    counts: Counter[str] = Counter()
    times: list[float] = []  # of answers with images, and of the first request
    data = photo(side)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                path = request.split(b" ", 2)[1].decode()
                counts[path] += 1
                if not times:
                    times.append(time.perf_counter())
                await asyncio.sleep(delay)
                kind = path.split("/")[1]
                body = data + path.encode() if kind == "image" else b"<html><body>sorry</body>"
                status = {"missing": "404 Not Found", "gone": "410 Gone"}.get(kind, "200 OK")
                length = len(body) + (1_000 if kind == "broken" else 0)
                head = f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n"
                writer.write(f'{head}ETag: "{path}"\r\n\r\n'.encode() + body)
                await writer.drain()
                if kind == "image":
                    times.append(time.perf_counter())
                if kind == "broken":  # in the middle of the body
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=256)
        line.send(server.sockets[0].getsockname()[1])
        while await asyncio.to_thread(line.recv) is not None:
            line.send((Counter(counts), times[-1] - times[0] if times else 0.0))
            counts.clear()
            times.clear()
        server.close()

    asyncio.run(run())


def photo(side: int) -> bytes:
    """A JPEG of noise with soft edges, of about the bytes of a photo."""
    noise = np.random.default_rng(0).integers(0, 256, (side // 8, side // 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((side, side)).save(file, "JPEG", quality=85)
    return file.getvalue()


if __name__ == "__main__":
    main()
