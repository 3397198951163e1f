"""torch against onnxruntime: both backbones, both towers, and the whole job from CSV to CSV beside the plain transformers loop.

    python benchmarks/bench_engines.py --csv test.csv --image-base-path photos/ [--rows 384] [--distinct] [--json results.json]

ViT-B/32 with random weights (speed does not depend on them); every figure of a table comes from one run on one machine, the contenders taking turns, so that
ratios hold where absolute rates drift.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from mismatch.backbones.registry import load_backbone
from mismatch.cli.predict import COLUMNS, write_predictions
from mismatch.data.pairs import read_rows
from mismatch.export.onnx import export_bundle
from mismatch.runtime.predictor import Predictor, load
from mismatch.training.engine import TorchEngine, open_backbone

IMAGE_BATCH, TEXT_BATCH = 16, 64  # items a tower call
TITLE_LENGTH = 12  # tokens of a product title, special ones included
FULL_LENGTH = 77  # what a padded loop always runs


@click.command()
@click.option("--csv", "csv_file", type=click.Path(path_type=Path, exists=True), help="Rows image_path,text.")
@click.option("--image-base-path", type=click.Path(path_type=Path), default=Path(), help="Folder of the images.")
@click.option("--rows", default=384, show_default=True, help="Rows of the CSV to take.")
@click.option("--distinct", is_flag=True, help="Only rows whose image and text did not occur before.")
@click.option("--repeats", default=3, show_default=True, help="Turns of each contender; the median counts.")
@click.option("--threads", default=2, show_default=True, help="Threads of each engine.")
@click.option("--tiny", is_flag=True, help="Tiny models instead of ViT-B/32: to see that it runs.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here too.")
def main(csv_file: Path | None, image_base_path: Path, rows: int, distinct: bool, repeats: int, threads: int, tiny: bool, json_file: Path | None) -> None:
    """Print a table of rates and ratios."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        models = {family: open_model(family, Path(folder), threads, tiny) for family in ("hf-clip", "openclip")}
        results: dict[str, Any] = {"machine": machine(threads), "towers": bench_towers(models, repeats)}
        if csv_file is None:
            click.echo("no --csv: the whole job from CSV to CSV is left out")
        else:
            job = take(csv_file, Path(folder) / "rows.csv", rows, distinct)
            results["job"] = bench_job(models, job, image_base_path, Path(folder), repeats)
    click.echo(report(results))
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


Model = tuple[TorchEngine, Any]  # torch's engine, onnxruntime's


def open_model(family: str, folder: Path, threads: int, tiny: bool) -> Model:
    """A model with random weights, in torch and as a bundle."""
    torch_engine = open_backbone(f"{family}:{random_model(family, folder, tiny)}", provider="cpu", threads=threads)
    bundle = folder / f"{family}-bundle"
    click.echo(f"{family}: {export_bundle(torch_engine, bundle).parity.summary()}")
    return torch_engine, load(bundle, "cpu", threads).engine


def random_model(family: str, folder: Path, tiny: bool) -> str:
    """The model id of a randomly initialised ViT-B/32, or of a tiny one; for transformers a directory, which the plain loop reads too."""
    if family == "openclip":
        return "tiny" if tiny else "ViT-B-32/untrained"
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    target = folder / "hf-clip"
    load_backbone("hf-clip:tiny").save_pretrained(target)  # its tokenizer is CLIP's own
    if tiny:
        return str(target)
    size = {"shortest_edge": 224}
    preprocessing = json.loads((target / "preprocessor_config.json").read_text()) | {"size": size, "crop_size": {"height": 224, "width": 224}}
    (target / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    CLIPModel(CLIPConfig()).save_pretrained(target)
    return str(target)


def bench_towers(models: dict[str, Model], repeats: int) -> list[dict[str, Any]]:
    """Items a second of each tower in each engine."""
    rng = np.random.default_rng(0)
    table = []
    for family, engines in models.items():
        size = engines[0].image_spec.size
        pixels = rng.standard_normal((IMAGE_BATCH, 3, size, size), dtype=np.float32)
        cases: list[tuple[str, int, Callable[[Any], object]]] = [("image", IMAGE_BATCH, lambda engine, pixels=pixels: engine.encode_images(pixels))]
        for length in (FULL_LENGTH, TITLE_LENGTH):
            ids = ids_of(length, engines[0])
            cases.append((f"text, length {length}", TEXT_BATCH, lambda engine, ids=ids: engine.encode_texts(ids, np.ones_like(ids))))
        for tower, batch, run in cases:
            seconds = in_turns({engine.name: partial(run, engine) for engine in engines}, repeats)
            rates = {name: batch / value for name, value in seconds.items()}
            table.append({"backbone": family, "tower": tower, "batch": batch, "items_per_second": rates})
    return table


def ids_of(length: int, engine: Any) -> Any:
    """(TEXT_BATCH, length) ids of a text that fills the length."""
    [ids], _ = Predictor(engine).pipeline.tokenizer.encode(["red shirt " * 100])
    row = [*ids[: length - 1], ids[-1]]
    return np.array([row] * TEXT_BATCH, dtype=np.int64)


def bench_job(models: dict[str, Model], rows: Path, base: Path, folder: Path, repeats: int) -> dict[str, Any]:
    """Pairs a second from CSV to CSV: the plain loop, our pipeline over torch, our pipeline over the bundle."""
    count = sum(1 for _ in read_rows(rows, require_label=False))
    contenders: dict[str, Callable[[], object]] = {
        "plain transformers loop, padded to 77": lambda: plain_loop(models["hf-clip"][0], rows, base, folder / "plain.csv")
    }
    for family, engines in models.items():
        for engine in engines:
            contenders[f"mismatch, {family}, {engine.name}"] = lambda engine=engine: predict(engine, rows, base, folder / "ours.csv")
    seconds = in_turns(contenders, repeats)
    same = largest_difference(models["hf-clip"], rows, base, folder)
    return {"rows": count, "pairs_per_second": {name: count / value for name, value in seconds.items()}, "largest_cosine_difference_from_plain_loop": same}


def predict(engine: Any, rows: Path, base: Path, output: Path) -> None:
    """What `mismatch predict --csv` does."""
    with output.open("w", newline="", encoding="utf-8") as file:
        write_predictions(file, read_rows(rows, require_label=False), Predictor(engine), str(base), {})


@torch.inference_mode()
def plain_loop(engine: TorchEngine, rows: Path, base: Path, output: Path, batch_size: int = 32) -> None:
    """What people write today: the processor on each batch, texts padded to 77, the whole model, one CSV row a pair."""
    model, processor = plain_parts(engine)
    with rows.open(newline="", encoding="utf-8") as source, output.open("w", newline="", encoding="utf-8") as target:
        reader, writer = csv.DictReader(source), csv.writer(target)
        writer.writerow(COLUMNS[:3])
        while batch := list(islice(reader, batch_size)):
            images = [Image.open(base / row["image_path"]).convert("RGB") for row in batch]
            inputs = processor(
                text=[row["text"] for row in batch], images=images, return_tensors="pt", padding="max_length", max_length=FULL_LENGTH, truncation=True
            )
            outputs = model(**inputs)
            scores = (outputs.image_embeds * outputs.text_embeds).sum(-1)  # (B,) cosines
            writer.writerows((row["image_path"], row["text"], float(score)) for row, score in zip(batch, scores, strict=True))


_parts: dict[str, Any] = {}


def plain_parts(engine: TorchEngine) -> Any:
    """transformers' own model and processor for the engine's weights, loaded once."""
    from transformers import CLIPModel, CLIPProcessor

    folder = engine.detector.backbone.model_id
    if folder not in _parts:
        _parts[folder] = (CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder))
    return _parts[folder]


def largest_difference(engines: Model, rows: Path, base: Path, folder: Path) -> float:
    """Both jobs must have computed the same cosines, or the race means nothing."""
    plain_loop(engines[0], rows, base, folder / "plain.csv")
    predict(engines[1], rows, base, folder / "ours.csv")
    plain, ours = ([float(row["similarity_score"]) for row in csv.DictReader((folder / name).open(newline=""))] for name in ("plain.csv", "ours.csv"))
    return float(np.abs(np.array(plain) - np.array(ours)).max())


def in_turns(contenders: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, after one warm-up, A B A B …"""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in tqdm(range(repeats + 1), disable=None):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def take(source: Path, target: Path, rows: int, distinct: bool) -> Path:
    """The first `rows` rows of `source` as a CSV of its own."""
    seen: set[str] = set()

    def wanted() -> Iterator[tuple[str, str]]:
        for row in read_rows(source, require_label=False):
            if distinct and seen & {row.image_path, row.text}:
                continue
            seen.update((row.image_path, row.text))
            yield row.image_path, row.text

    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image_path", "text"))
        writer.writerows(islice(wanted(), rows))
    return target


def machine(threads: int) -> dict[str, Any]:
    """What the figures were measured on."""
    names = (
        [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        if Path("/proc/cpuinfo").exists()
        else []
    )
    packages = {name: version(name) for name in ("torch", "transformers", "open_clip_torch", "onnxruntime", "Pillow")}
    return {"cpu": names[0] if names else platform.processor(), "cpus": os.cpu_count(), "threads": threads, "python": platform.python_version(), **packages}


def report(results: dict[str, Any]) -> str:
    """The figures as Markdown tables."""
    lines = ["", "machine: " + ", ".join(f"{key} {value}" for key, value in results["machine"].items()), ""]
    lines += ["| backbone | tower | batch | torch, items/s | onnxruntime, items/s | ratio |", "|---|---|---|---|---|---|"]
    for row in results["towers"]:
        slow, fast = row["items_per_second"].values()
        lines.append(f"| {row['backbone']} | {row['tower']} | {row['batch']} | {slow:.1f} | {fast:.1f} | {fast / slow:.2f} |")
    if job := results.get("job"):
        plain = next(iter(job["pairs_per_second"].values()))
        lines += ["", f"{job['rows']} rows, CSV to CSV:", "", "| job | pairs/s | times the plain loop |", "|---|---|---|"]
        lines += [f"| {name} | {rate:.1f} | {rate / plain:.2f} |" for name, rate in job["pairs_per_second"].items()]
        lines += ["", f"largest difference of a cosine from the plain loop's: {job['largest_cosine_difference_from_plain_loop']:.1e}"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
