"""Training against the loop that people write today: pairs a second of full fine-tuning, ten epochs
of `--tune head`, and peak memory.

    python benchmarks/bench_training.py [--rows 64] [--head-rows 256] [--repeats 3] [--json
    results.json]
    python benchmarks/bench_training.py --large 500000        # peak memory of --tune head on so
    many rows, and nothing else

ViT-B/32 with random weights and drawn photos (speed depends on neither). Each row has an image and
a text of its own, so that nothing is won by encoding what repeats only once. Contenders take turns
in one run, so that ratios hold where absolute rates drift.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from mismatch.backbones.registry import load_backbone
from mismatch.data.pairs import load_pairs
from mismatch.runtime.tokenize import Tokenizer
from mismatch.training import TrainConfig, train
from mismatch.training.distributed.processes import Processes
from mismatch.training.feeds.batches import PairSet, make_batches
from mismatch.training.feeds.feeds import PixelFeed, PixelStore
from mismatch.training.feeds.prepare import load_start
from mismatch.training.head import CosineHead
from mismatch.training.objective import TrainingObjective
from mismatch.training.optim import build_optimizer
from mismatch.training.precision import has_bf16
from mismatch.training.step import Step

BATCH = 32  # rows a step, everywhere
EPOCHS = 10
FULL_LENGTH = 77  # tokens that a padded loop always runs
RATE = 1e-5  # of learning; speed does not depend on it
TARGETS = {"mismatch, bf16": 2.2, "mismatch, fp32": 1.4}  # times the plain loop
HEAD_TARGET = 20  # times the plain loop
FULL_GB, LARGE_GB = 8, 4  # of anonymous memory
LARGE_IMAGES, LARGE_TEXTS = 20_000, 100_000
GB = 1e9  # bytes
WORDS = (
    "red",
    "green",
    "blue",
    "grey",
    "black",
    "cotton",
    "linen",
    "wool",
    "silk",
    "shirt",
    "shoe",
    "bag",
    "coat",
    "women",
    "men",
    "summer",
    "printed",
)


@click.command()
@click.option("--rows", default=64, show_default=True, help="Rows of a turn of full fine-tuning.")
@click.option(
    "--head-rows", default=256, show_default=True, help="Rows of ten epochs of --tune head."
)
@click.option(
    "--repeats", default=3, show_default=True, help="Turns of each contender; the median counts."
)
@click.option(
    "--threads", default=2, show_default=True, help="Threads of torch, for every contender."
)
@click.option("--large", type=int, help="Only the peak memory of --tune head on so many rows.")
@click.option("--tiny", is_flag=True, help="Tiny models instead of ViT-B/32: to see that it runs.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here too."
)
def main(
    rows: int,
    head_rows: int,
    repeats: int,
    threads: int,
    large: int | None,
    tiny: bool,
    json_file: Path | None,
) -> None:
    """Print rates, ratios and peaks."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        results: dict[str, Any] = {"machine": machine(threads)}
        if large is not None:
            results["large"] = bench_large(folder, large, threads, tiny)
        else:
            model = random_model(folder, tiny)
            results["full"] = bench_full(model, draw_rows(folder / "full", rows, 224), repeats)
            results["head"] = bench_head(
                model,
                draw_rows(folder / "head", head_rows, 224),
                results["full"]["pairs_per_second"],
                threads,
            )
            results["memory"] = bench_memory(model, folder / "full" / "rows.csv", threads)
    click.echo(report(results))
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def random_model(folder: Path, tiny: bool) -> str:
    """A directory of a randomly initialised CLIP ViT-B/32, or of a tiny one, that transformers
    reads and hf-clip too.
    """
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    target = folder / "model"
    load_backbone("hf-clip:tiny").save_pretrained(target)  # its tokenizer is CLIP's own
    if not tiny:
        preprocessing = json.loads((target / "preprocessor_config.json").read_text())
        preprocessing |= {
            "size": {"shortest_edge": 224},
            "crop_size": {"height": 224, "width": 224},
        }
        (target / "preprocessor_config.json").write_text(json.dumps(preprocessing))
        CLIPModel(CLIPConfig()).save_pretrained(target)
    return str(target)


def draw_rows(
    folder: Path, count: int, size: int, *, images: int | None = None, texts: int | None = None
) -> Path:
    """rows.csv and its photos, JPEGs of `size` pixels; each image and each text once, or as many
    different ones as are asked for.
    """
    folder.mkdir()
    random = np.random.default_rng(0)
    images, texts = images or count, texts or count
    for i in range(images):
        Image.fromarray(random.integers(0, 255, (7, 7, 3), dtype=np.uint8)).resize(
            (size, size), Image.Resampling.BICUBIC
        ).save(folder / f"{i}.jpg")
    titles = [f"{i} {' '.join(random.choice(WORDS, random.integers(5, 10)))}" for i in range(texts)]
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image_path", "text", "label"))
        writer.writerows((f"{i % images}.jpg", titles[i % texts], i % 2) for i in range(count))
    return folder / "rows.csv"


# --- full fine-tuning


def bench_full(model: str, rows: Path, repeats: int) -> dict[str, Any]:
    """Pairs a second of one pass over the rows, decoding included, weights going on from turn to
    turn.
    """
    pairs = PairSet.from_rows(str(rows), load_pairs(str(rows), str(rows.parent)), str(rows.parent))
    contenders: dict[str, Callable[[], object]] = {
        "plain transformers loop, fp32, padded to 77": plain_loop(model, rows)
    }
    contenders["mismatch, fp32"] = ours(model, pairs, "fp32")
    skipped = []
    precisions = ["fp32"]
    if has_bf16(torch.device("cpu")):
        contenders["mismatch, bf16"] = ours(model, pairs, "bf16")
        precisions.append("bf16")
    else:
        skipped.append("bf16: this CPU has neither AVX512_BF16 nor AMX")
    if find_spec("sentence_transformers") and find_spec("datasets"):
        contenders |= {
            f"sentence-transformers, {precision}": sentence_transformers(model, rows, precision)
            for precision in precisions
        }
    else:
        skipped.append("sentence-transformers: it and datasets are not installed")
    seconds = in_turns(contenders, repeats)
    return {
        "rows": len(pairs),
        "pairs_per_second": {name: len(pairs) / value for name, value in seconds.items()},
        "skipped": skipped,
    }


def plain_loop(model_folder: str, rows: Path) -> Callable[[], object]:
    """What people write today: the processor on each batch, texts padded to 77, the whole model in
    fp32, cross-entropy on the scaled cosine, torch's AdamW.
    """
    from transformers import CLIPModel, CLIPProcessor

    model, processor = (
        CLIPModel.from_pretrained(model_folder).train(),
        CLIPProcessor.from_pretrained(model_folder),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)

    def run() -> None:
        with rows.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            while batch := list(islice(reader, BATCH)):
                images = [
                    Image.open(rows.parent / row["image_path"]).convert("RGB") for row in batch
                ]
                texts = [row["text"] for row in batch]
                inputs = processor(
                    text=texts,
                    images=images,
                    return_tensors="pt",
                    padding="max_length",
                    max_length=FULL_LENGTH,
                    truncation=True,
                )
                outputs = model(**inputs)
                # (B,)
                logits = model.logit_scale.exp() * (outputs.image_embeds * outputs.text_embeds).sum(
                    -1
                )
                loss = F.binary_cross_entropy_with_logits(
                    logits, torch.tensor([float(row["label"]) for row in batch])
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    return run


def sentence_transformers(model_folder: str, rows: Path, precision: str) -> Callable[[], object]:
    """Its own trainer with CoSENT's loss, which its documentation names for scored pairs; the
    trainer is built once, outside what is timed.
    """
    from datasets import Dataset
    from datasets import Image as ImageColumn
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    with rows.open(newline="", encoding="utf-8") as file:
        table = [
            (str(rows.parent / row["image_path"]), row["text"], float(row["label"]))
            for row in csv.DictReader(file)
        ]
    columns = dict(
        zip(("image", "text", "label"), map(list, zip(*table, strict=True)), strict=True)
    )
    model = SentenceTransformer(model_folder, device="cpu")
    quiet: dict[str, Any] = {
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(rows.parent / "sentence-transformers"),
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        learning_rate=RATE,
        bf16=precision == "bf16",
        **quiet,
    )
    dataset = Dataset.from_dict(columns).cast_column("image", ImageColumn())
    trainer = SentenceTransformerTrainer(
        model, arguments, train_dataset=dataset, loss=CoSENTLoss(model)
    )
    train: Callable[[], object] = trainer.train
    return train


def ours(model: str, pairs: PairSet, precision: str) -> Callable[[], object]:
    """What an epoch of `mismatch train --tune full` does, adapter head and contrastive term
    included; no image is kept from one turn to the next.
    """
    detector = load_start(TrainConfig(train_csv=pairs.csv_file, model_name=model)).detector.train()
    backbone = detector.backbone
    optimizer = build_optimizer(detector, backbone_rate=RATE, head_rate=RATE, weight_decay=0.01)
    here = Processes(torch.device("cpu"))
    step = Step(
        detector,
        TrainingObjective(cast(CosineHead, detector.head), "truncate", 0.5),
        optimizer,
        here,
        rows=BATCH,
        precision=precision,
    )

    def run() -> None:
        feed = PixelFeed(
            pairs, PixelStore(backbone.image_spec), Tokenizer(backbone.text_spec), 4, here
        )
        for batch, inputs in feed.stream(make_batches(pairs, BATCH, 0, 1)):
            step(feed, batch, inputs, (1, 0))

    return run


def in_turns(contenders: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, after one warm-up, A B A B …"""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


# --- ten epochs of the head


def bench_head(model: str, rows: Path, rates: dict[str, float], threads: int) -> dict[str, Any]:
    """The whole of `mismatch train --tune head`, cache cold, ten epochs, writing its checkpoints;
    the plain loop's ten epochs follow from its rate.
    """
    start = time.perf_counter()
    train(
        TrainConfig(**options(model, rows, "head", threads), epochs=EPOCHS, batch_size=BATCH),
    )
    seconds = time.perf_counter() - start
    count = sum(1 for _ in rows.open()) - 1
    plain = EPOCHS * count / next(iter(rates.values()))
    return {
        "rows": count,
        "epochs": EPOCHS,
        "seconds": seconds,
        "plain_seconds_estimated": plain,
        "times": plain / seconds,
    }


def options(model: str, rows: Path, tune: str, threads: int) -> dict[str, Any]:
    """Those of a run on all rows."""
    common = {
        "train_csv": str(rows),
        "image_base_path": str(rows.parent),
        "output_dir": str(rows.parent / "out"),
        "val_fraction": 0.0,
    }
    return common | {
        "model_name": model,
        "tune": tune,
        "threads": threads,
        "device": "cpu",
        "cache": str(rows.parent / "cache"),
    }


# --- memory


def bench_memory(model: str, rows: Path, threads: int) -> dict[str, float]:
    """Peak anonymous memory, bytes, of `mismatch train --tune full` at batch 32, by what saves
    some.
    """
    common = options(model, rows, "full", threads) | {
        "epochs": 1,
        "batch_size": BATCH,
        "precision": "fp32",
    }
    ways: dict[str, dict[str, Any]] = {
        "": {},
        "--gradient-checkpointing": {"gradient_checkpointing": True},
    }
    ways["--batch-size 8 --gradient-accumulation-steps 4"] = {
        "batch_size": 8,
        "gradient_accumulation_steps": 4,
    }
    return {
        f"--tune full --batch-size 32 {way}".strip().replace(
            "--batch-size 32 --batch", "--batch"
        ): peak(common | more)
        for way, more in ways.items()
    }


def bench_large(folder: Path, rows: int, threads: int, tiny: bool) -> dict[str, float]:
    """Peak anonymous memory, bytes, and seconds of one epoch of `--tune head` over many rows, cache
    cold.
    """
    images, texts = (
        min(rows, most // (100 if tiny else 1)) for most in (LARGE_IMAGES, LARGE_TEXTS)
    )
    model, path = (
        random_model(folder, tiny),
        draw_rows(folder / "large", rows, 32, images=images, texts=texts),
    )
    start = time.perf_counter()
    bytes_ = peak(options(model, path, "head", threads) | {"epochs": 1})
    return {
        "rows": rows,
        "images": images,
        "texts": texts,
        "bytes": bytes_,
        "seconds": time.perf_counter() - start,
    }


def peak(config: dict[str, Any]) -> float:
    """The largest anonymous resident memory, bytes, of a new process that trains so; nan where
    /proc doesn't tell.
    """
    code = (
        "import json, sys; from mismatch.training import TrainConfig, train;"
        " train(TrainConfig(**json.loads(sys.argv[1])))"
    )
    most = float("nan")
    with subprocess.Popen([sys.executable, "-c", code, json.dumps(config)]) as process:
        while process.poll() is None:
            most = max([*anonymous(process.pid), most])
            time.sleep(0.02)
    if process.returncode:
        raise click.ClickException(f"training ended with exit code {process.returncode}")
    return most


def anonymous(pid: int) -> Iterator[float]:
    """Bytes, once; nothing where the process is gone."""
    status = Path(f"/proc/{pid}/status")
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return
    yield from (1024.0 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def machine(threads: int) -> dict[str, Any]:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo")
    names = (
        [
            line.partition(":")[2].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        if info.exists()
        else []
    )
    packages = {name: version(name) for name in ("torch", "transformers", "Pillow")}
    kind = torch.backends.cpu.get_cpu_capability()
    return {
        "cpu": names[0] if names else platform.processor(),
        "kernels": kind,
        "cpus": os.cpu_count(),
        "threads": threads,
        **packages,
    }


def report(results: dict[str, Any]) -> str:
    """The figures as Markdown tables."""
    lines = [
        "",
        "machine: " + ", ".join(f"{key} {value}" for key, value in results["machine"].items()),
        "",
    ]
    if full := results.get("full"):
        plain = next(iter(full["pairs_per_second"].values()))
        lines += [
            f"| full fine-tuning, batch {BATCH} | pairs/s | times the plain loop | target |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {rate:.2f} | {rate / plain:.2f} | {TARGETS.get(name, '')} |"
            for name, rate in full["pairs_per_second"].items()
        ]
        lines += [f"skip {line}" for line in full["skipped"]]
    if head := results.get("head"):
        lines += [
            "",
            f"| {head['epochs']} epochs over {head['rows']} rows, cache cold | seconds |",
            "|---|---|",
        ]
        lines += [
            f"| plain loop, estimated from its rate | {head['plain_seconds_estimated']:.0f} |",
            f"| mismatch, --tune head | {head['seconds']:.1f} |",
        ]
        lines.append(f"{head['times']:.1f} times as fast; the target is {HEAD_TARGET}")
    if memory := results.get("memory"):
        lines += [
            "",
            "| peak of anonymous memory, fp32 | GB |",
            "|---|---|",
            *(f"| {name} | {value / GB:.2f} |" for name, value in memory.items()),
        ]
        lines.append(f"the target is {FULL_GB} GB")
    if large := results.get("large"):
        of = f"{large['rows']:,} rows, {large['images']:,} images, {large['texts']:,} texts"
        lines.append(
            f"--tune head on {of}: {large['bytes'] / GB:.2f} GB of anonymous memory in"
            f" {large['seconds']:.0f} s; the target is {LARGE_GB} GB"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
