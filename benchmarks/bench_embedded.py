"""What it costs that images stand in the rows: rows a second and anonymous memory of `predict` on
Parquet, on an Arrow dataset and on a webdataset archive, against the same pictures as files.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

BUNDLE = Path(__file__).parent.parent / "tests" / "fixtures" / "bundles" / "format-1"
DRAWN = 64  # pictures; all others are one of them with bytes of their own behind the last marker
GROUP = 100  # rows of a row group, as datasets writes images
SHARD = 10_000  # samples of an archive
MAX_ANONYMOUS = 1_000  # MB
MIN_RATIO = 0.9  # of the speed on files


def main() -> None:
    """Write the same rows in each format, score them in turns, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--bytes", type=int, default=20_000, help="of a picture")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--model", type=Path, default=BUNDLE)
    parser.add_argument("--folder", type=Path, help="where rows are written; a temporary one")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        score(*options.child)
        return
    with TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place)
        sources = write_all(folder, options.rows, options.bytes)
        megabytes = options.rows * options.bytes / 1e6
        print(f"{options.rows:,} rows, {megabytes:,.0f} MB of pictures, {options.turns} turns\n")
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in sources}
        for _ in range(options.turns):
            for name, path in sources.items():
                runs[name].append(measured(options.model, path, folder))
    sys.exit(not report(runs, options.rows))


def report(runs: dict[str, list[dict[str, float]]], rows: int) -> bool:
    """Print the table; return whether the targets are met."""
    print(
        "| rows in | rows/s, median | of the speed on files, by turn | of the CPU time on files,"
        " median | anonymous memory, MB |"
    )
    print("|---|---|---|---|---|")
    is_met = True
    for name, turns in runs.items():
        pairs = list(zip(runs["files"], turns, strict=True))
        ratios = [files["seconds"] / turn["seconds"] for files, turn in pairs]
        cpu = statistics.median(turn["cpu"] / files["cpu"] for files, turn in pairs)
        speed = rows / statistics.median(turn["seconds"] for turn in turns)
        memory = max(turn["anonymous"] for turn in turns)
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"| {name} | {speed:,.0f} | {shown} | {cpu:.2f} | {memory:,.0f} |")
        is_met = is_met and memory <= MAX_ANONYMOUS and statistics.median(ratios) >= MIN_RATIO
    return is_met


def pictures(count: int, size: int) -> Iterator[bytes]:
    """Yield JPEGs of about as many bytes, no two of them alike."""
    random = np.random.default_rng(0)
    drawn = []
    side = int((size / 0.55) ** 0.5)
    for _ in range(min(DRAWN, count)):
        small = random.integers(0, 256, (max(2, side // 2), max(2, side // 2), 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(small).resize((side, side)).save(file, "JPEG", quality=90)
        drawn.append(file.getvalue())
    for number in range(count):
        yield drawn[number % len(drawn)] + number.to_bytes(8, "big")


def write_all(folder: Path, count: int, size: int) -> dict[str, str]:
    """Return what `predict` is given, by format."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "photos").mkdir()
    (folder / "dataset").mkdir()
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    schema = pa.schema({"image": kind, "text": pa.string()})
    shards = -(-count // SHARD)
    arrow = folder / "dataset" / "data-00000-of-00001.arrow"
    with (
        (folder / "rows.csv").open("w") as lines,
        pq.ParquetWriter(folder / "rows.parquet", schema) as parquet,
        pa.OSFile(str(arrow), "wb") as file,
        pa.ipc.new_stream(file, schema) as stream,
    ):
        lines.write("image_path,text\n")
        archives = Archives(folder)
        waiting = []
        for number, image in enumerate(pictures(count, size)):
            text = f"a picture of {('red', 'green', 'blue')[number % 3]}, number {number}"
            (folder / "photos" / f"{number:09}.jpg").write_bytes(image)
            lines.write(f'photos/{number:09}.jpg,"{text}"\n')
            archives.add(number, image, text)
            waiting.append({"image": {"bytes": image, "path": None}, "text": text})
            if len(waiting) == GROUP or number == count - 1:
                table = pa.Table.from_pylist(waiting, schema)
                parquet.write_table(table)
                stream.write_table(table)
                waiting = []
        archives.close()
    (folder / "dataset" / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": arrow.name}]})
    )
    return {
        "files": str(folder / "rows.csv"),
        "Parquet": str(folder / "rows.parquet"),
        "Arrow dataset": str(folder / "dataset"),
        "webdataset": str(folder / f"{{00000..{shards - 1:05}}}.tar")
        if shards > 1
        else str(folder / "00000.tar"),
    }


class Archives:
    """Archives that are written one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive: tarfile.TarFile | None = None

    def add(self, number: int, image: bytes, text: str) -> None:
        """Write a sample."""
        if number % SHARD == 0 or self.archive is None:
            self.close()
            self.archive = tarfile.open(self.folder / f"{number // SHARD:05}.tar", "w")  # noqa: SIM115
        for ending, content in (("jpg", image), ("txt", text.encode())):
            member = tarfile.TarInfo(f"{number:09}.{ending}")
            member.size = len(content)
            self.archive.addfile(member, io.BytesIO(content))

    def close(self) -> None:
        """Finish the last archive."""
        if self.archive is not None:
            self.archive.close()


def measured(model: Path, rows: str, folder: Path) -> dict[str, float]:
    """Score rows in a process of their own; return seconds, and MB of anonymous memory."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", str(model), rows, str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


def score(model: str, rows: str, folder: str) -> None:
    """Be that process: print what was measured."""
    import pyarrow.parquet  # noqa: F401  a second of a run of any length

    import mismatch

    predictor = mismatch.load(model)
    peak = 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    cpu_began = time.process_time()
    result = mismatch.predict_file(
        predictor, rows, Path(folder) / "scores.csv", image_base_path=folder
    )
    seconds = time.perf_counter() - began
    cpu = time.process_time() - cpu_began
    done.set()
    watcher.join()
    if result.failed:
        raise SystemExit(f"{result.failed} rows of {rows} have no score")
    print(json.dumps({"seconds": seconds, "cpu": cpu, "anonymous": max(peak, anonymous())}))


def anonymous() -> float:
    """Return this process's anonymous memory, MB; by Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1000


if __name__ == "__main__":
    main()
