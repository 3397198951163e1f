"""torch against onnxruntime in fp32 and int8: both backbones, both towers, one pair, and the whole
job from CSV to CSV next to what people write today.

    python benchmarks/bench_engines.py --csv test.csv --image-base-path photos/ [--rows 384]
    [--distinct] [--json results.json]

ViT-B/32 with random weights (speed does not depend on them); every figure of a table comes from one
run on one machine, the contenders taking turns, so that ratios hold where absolute rates drift. The
roof is what onnxruntime's own matrix products reach at the image tower's shapes, in the same run.
"""

from __future__ import annotations

import csv
import io
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
import onnx
import torch
from contenders import job_contenders, tower_contenders
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from mismatch.backbones.registry import load_backbone
from mismatch.data.pairs import read_rows
from mismatch.export.gate import GateLimits
from mismatch.export.onnx import Rows, export_bundle
from mismatch.export.parity import built_in_pairs
from mismatch.jobs.output.tables import COLUMNS
from mismatch.jobs.predict_file import predict_file
from mismatch.runtime.onnx_graph import Graph
from mismatch.runtime.predictor import Predictor, load
from mismatch.training.engine import TorchEngine, open_backbone

IMAGE_BATCH, TEXT_BATCH = 16, 64  # items a tower call
TITLE_LENGTH = 12  # tokens of a product title, special ones included
FULL_LENGTH = 77  # what a padded loop always runs
# a block's linear layers, in and out
SHAPES = ((768, 768), (768, 768), (768, 768), (768, 768), (768, 3072), (3072, 768))
TOKENS = 50 * IMAGE_BATCH


@click.command()
@click.option(
    "--csv", "csv_file", type=click.Path(path_type=Path, exists=True), help="Rows image_path,text."
)
@click.option(
    "--image-base-path",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Folder of the images.",
)
@click.option("--rows", default=384, show_default=True, help="Rows of the CSV to take.")
@click.option(
    "--distinct", is_flag=True, help="Only rows whose image and text did not occur before."
)
@click.option(
    "--repeats", default=3, show_default=True, help="Turns of each contender; the median counts."
)
@click.option("--threads", default=2, show_default=True, help="Threads of each engine.")
@click.option("--tiny", is_flag=True, help="Tiny models instead of ViT-B/32: to see that it runs.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here too."
)
@click.option(
    "--plot",
    "plot_file",
    type=click.Path(path_type=Path),
    help="Draw the whole job and the towers into this PNG.",
)
def main(
    csv_file: Path | None,
    image_base_path: Path,
    rows: int,
    distinct: bool,
    repeats: int,
    threads: int,
    tiny: bool,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Print a table of rates and ratios."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        models = {
            family: open_model(family, Path(folder), threads, tiny)
            for family in ("hf-clip", "openclip")
        }
        results: dict[str, Any] = {
            "machine": machine(threads),
            "roof": bench_roof(threads, Path(folder), repeats),
        }
        results |= {
            "towers": bench_towers(models, repeats, threads),
            "pair": bench_pair(models, 5 * repeats),
        }
        if csv_file is None:
            click.echo("no --csv: the whole job from CSV to CSV is left out")
        else:
            job = take(csv_file, Path(folder) / "rows.csv", rows, distinct)
            results["job"] = bench_job(models, job, image_base_path, Path(folder), repeats)
    click.echo(report(results))
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if plot_file is not None:
        plot(results, plot_file)


Model = dict[str, Any]  # engine by its name: torch, onnxruntime fp32, onnxruntime int8


def open_model(
    family: str, folder: Path, threads: int, tiny: bool, width: int | None = None
) -> Model:
    """A model with random weights, in torch and as a bundle in both precisions; `width` of the
    embeddings of a tiny hf-clip, if not its own.
    """
    torch_engine = open_backbone(
        f"{family}:{random_model(family, folder, tiny, width)}", provider="cpu", threads=threads
    )
    engines: Model = {"torch": torch_engine}
    for precision in ("fp32", "int8"):
        bundle = folder / f"{family}-{precision}"
        result = export_bundle(
            torch_engine,
            bundle,
            precision=precision,
            rows=Rows(built_in_pairs(), "built-in pairs"),
            limits=GateLimits(1, 1),
        )
        click.echo(f"{family}, {precision}: {result.parity.summary()}")
        engines[f"onnxruntime {precision}"] = load(bundle, "cpu", threads).engine
    return engines


def random_model(family: str, folder: Path, tiny: bool, width: int | None = None) -> str:
    """The model id of a randomly initialised ViT-B/32, or of a tiny one; for transformers a
    directory, which the plain loop reads too.
    """
    if family == "openclip":
        return "tiny" if tiny else "ViT-B-32/untrained"
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    target = folder / "hf-clip"
    load_backbone("hf-clip:tiny").save_pretrained(target)  # its tokenizer is CLIP's own
    if tiny:
        if width is not None:
            CLIPModel(CLIPConfig.from_pretrained(target, projection_dim=width)).save_pretrained(
                target
            )
        return str(target)
    size = {"shortest_edge": 224}
    preprocessing = json.loads((target / "preprocessor_config.json").read_text()) | {
        "size": size,
        "crop_size": {"height": 224, "width": 224},
    }
    (target / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    CLIPModel(CLIPConfig()).save_pretrained(target)
    return str(target)


def bench_roof(threads: int, folder: Path, repeats: int) -> dict[str, float]:
    """Products of matrices a second, counting two operations a multiplication, in fp32 and of
    integers, at the shapes of a batch's linear layers.
    """
    rng, seconds = np.random.default_rng(0), {"fp32": 0.0, "int8": 0.0}
    for k, n in SHAPES:
        weights = {
            "fp32": rng.standard_normal((k, n), np.float32),
            "int8": rng.integers(-127, 128, (k, n)).astype(np.int8),
        }
        rows: dict[str, Any] = {
            "fp32": rng.standard_normal((TOKENS, k), np.float32),
            "int8": rng.integers(1, 256, (TOKENS, k)).astype(np.uint8),
        }
        graphs = {
            kind: Graph(write_product(folder / f"{kind}.onnx", weights[kind]), threads=threads)
            for kind in weights
        }
        for kind in graphs:  # not in turns: threads of the one that waits would spin
            seconds[kind] += in_turns({kind: partial(graphs[kind], rows=rows[kind])}, 10 * repeats)[
                kind
            ]
    operations = sum(2 * TOKENS * k * n for k, n in SHAPES)
    return {kind: operations / value for kind, value in seconds.items()}


def write_product(path: Path, weights: Any) -> Path:
    """A graph of one product, rows (M, K) times weights (K, N)."""
    helper, kind, integer = onnx.helper, onnx.TensorProto, weights.dtype == np.int8
    inputs = [
        helper.make_tensor_value_info(
            "rows", kind.UINT8 if integer else kind.FLOAT, ["M", len(weights)]
        )
    ]
    outputs = [
        helper.make_tensor_value_info(
            "out", kind.INT32 if integer else kind.FLOAT, ["M", weights.shape[1]]
        )
    ]
    zero = [onnx.numpy_helper.from_array(np.array(128, np.uint8), "zero")] if integer else []
    node = helper.make_node(
        "MatMulInteger" if integer else "MatMul",
        ["rows", "weights", *(value.name for value in zero)],
        ["out"],
    )
    graph = helper.make_graph(
        [node],
        "product",
        inputs,
        outputs,
        [onnx.numpy_helper.from_array(weights, "weights"), *zero],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path
    )
    return path


def _encode_images(pixels: Any, engine: Any) -> object:
    return engine.encode_images(pixels)


def _encode_texts(ids: Any, engine: Any) -> object:
    return engine.encode_texts(ids, np.ones_like(ids))


def bench_towers(models: dict[str, Model], repeats: int, threads: int) -> list[dict[str, Any]]:
    """Items a second of each tower in each engine, and operations an item takes in its linear
    layers.
    """
    rng = np.random.default_rng(0)
    table = []
    for family, ours in models.items():
        engines = ours | tower_contenders(ours["torch"], threads)
        spec = engines["torch"].image_spec
        pixels = rng.standard_normal((IMAGE_BATCH, 3, spec.size, spec.size), dtype=np.float32)
        cases: list[tuple[str, int, Callable[[Any], object]]] = [
            ("image", IMAGE_BATCH, partial(_encode_images, pixels))
        ]
        for length in (FULL_LENGTH, TITLE_LENGTH):
            ids = ids_of(length, engines["torch"])
            cases.append((f"text, length {length}", TEXT_BATCH, partial(_encode_texts, ids)))
        for tower, batch, run in cases:
            seconds = in_turns(
                {name: partial(run, engine) for name, engine in engines.items()}, repeats
            )
            rates = {name: batch / value for name, value in seconds.items()}
            operations = flops(engines["torch"], tower)
            table.append(
                {
                    "backbone": family,
                    "tower": tower,
                    "batch": batch,
                    "items_per_second": rates,
                    "operations": operations,
                }
            )
    return table


def flops(engine: TorchEngine, tower: str) -> int:
    """Operations of one item, as torch counts them; it doesn't see into the fast path of
    nn.MultiheadAttention.
    """
    torch.backends.mha.set_fastpath_enabled(False)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        if tower == "image":
            engine.detector.backbone.encode_image(
                torch.zeros(1, 3, engine.image_spec.size, engine.image_spec.size)
            )
        else:
            ids = torch.from_numpy(ids_of(int(tower.split()[-1]), engine)[:1])
            engine.detector.backbone.encode_text(ids, torch.ones_like(ids))
    torch.backends.mha.set_fastpath_enabled(True)
    return int(counter.get_total_flops())


def bench_pair(models: dict[str, Model], runs: int) -> list[dict[str, Any]]:
    """Milliseconds of one warm pair, a JPEG in memory and a title: as `Predictor.predict` does it,
    and as torch does with texts padded to 77.
    """
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (7, 7, 3), dtype=np.uint8)).resize(
        (224, 224)
    ).save(file, "JPEG")
    table = []
    for family, engines in models.items():
        contenders: dict[str, Callable[[], object]] = {
            "torch, padded to 77": partial(padded_pair, engines["torch"], file.getvalue())
        }
        contenders |= {
            name: partial(Predictor(engine).predict, file.getvalue(), "red shirt for women")
            for name, engine in engines.items()
        }
        seconds = all_turns(contenders, runs)
        figures = {
            name: {f"p{p}": float(np.percentile(values, p)) * 1000 for p in (50, 95, 99)}
            for name, values in seconds.items()
        }
        table.append({"backbone": family, "milliseconds": figures})
    return table


def padded_pair(engine: TorchEngine, image: bytes) -> object:
    """One pair in torch, the text as long as the context."""
    pipeline = Predictor(engine).pipeline if engine not in _pipelines else _pipelines[engine]
    _pipelines[engine] = pipeline
    pixels = pipeline.preprocess(image)[None]
    [ids], _ = pipeline.tokenizer.encode(["red shirt for women"])
    row = np.full((1, FULL_LENGTH), engine.text_spec.pad_id, np.int64)
    row[0, : len(ids)] = ids
    mask = (np.arange(FULL_LENGTH) < len(ids)).astype(np.int64)[None]
    return engine.logits(engine.encode_images(pixels), engine.encode_texts(row, mask))


_pipelines: dict[TorchEngine, Any] = {}


def ids_of(length: int, engine: Any) -> Any:
    """(TEXT_BATCH, length) ids of a text that fills the length."""
    [ids], _ = Predictor(engine).pipeline.tokenizer.encode(["red shirt " * 100])
    row = [*ids[: length - 1], ids[-1]]
    return np.array([row] * TEXT_BATCH, dtype=np.int64)


def bench_job(
    models: dict[str, Model], rows: Path, base: Path, folder: Path, repeats: int
) -> dict[str, Any]:
    """Pairs a second from CSV to CSV: the plain loop, sentence-transformers where it is installed,
    our pipeline over each engine.
    """
    count = sum(1 for _ in read_rows(rows, require_label=False))
    plain = models["hf-clip"]["torch"]
    contenders: dict[str, Callable[[], object]] = {
        "plain transformers loop, padded to 77": lambda: plain_loop(
            plain, rows, base, folder / "plain.csv"
        )
    }
    contenders |= job_contenders(plain, rows, base, folder)
    for family, engines in models.items():
        for name, engine in engines.items():
            contenders[f"mismatch, {family}, {name}"] = partial(
                predict, engine, rows, base, folder / "ours.csv"
            )
    seconds = in_turns(contenders, repeats)
    same = {
        name: largest_difference(plain, engine, rows, base, folder)
        for name, engine in models["hf-clip"].items()
    }
    return {
        "rows": count,
        "pairs_per_second": {name: count / value for name, value in seconds.items()},
        "largest_cosine_difference_from_plain_loop": same,
    }


def predict(engine: Any, rows: Path, base: Path, output: Path) -> None:
    """What `mismatch predict --csv` does."""
    output.unlink(missing_ok=True)  # another contender's is no table of predictions
    predict_file(Predictor(engine), rows, output, image_base_path=base)


@torch.inference_mode()
def plain_loop(
    engine: TorchEngine, rows: Path, base: Path, output: Path, batch_size: int = 32
) -> None:
    """What people write today: the processor on each batch, texts padded to 77, the whole model,
    one CSV row a pair.
    """
    model, processor = plain_parts(engine)
    with (
        rows.open(newline="", encoding="utf-8") as source,
        output.open("w", newline="", encoding="utf-8") as target,
    ):
        reader, writer = csv.DictReader(source), csv.writer(target)
        writer.writerow(COLUMNS[:3])
        while batch := list(islice(reader, batch_size)):
            images = [Image.open(base / row["image_path"]).convert("RGB") for row in batch]
            inputs = processor(
                text=[row["text"] for row in batch],
                images=images,
                return_tensors="pt",
                padding="max_length",
                max_length=FULL_LENGTH,
                truncation=True,
            )
            outputs = model(**inputs)
            scores = (outputs.image_embeds * outputs.text_embeds).sum(-1)  # (B,) cosines
            writer.writerows(
                (row["image_path"], row["text"], float(score))
                for row, score in zip(batch, scores, strict=True)
            )


_parts: dict[str, Any] = {}


def plain_parts(engine: TorchEngine) -> Any:
    """transformers' own model and processor for the engine's weights, loaded once."""
    from transformers import CLIPModel, CLIPProcessor

    folder = engine.detector.backbone.model_id
    if folder not in _parts:
        _parts[folder] = (
            CLIPModel.from_pretrained(folder).eval(),
            CLIPProcessor.from_pretrained(folder),
        )
    return _parts[folder]


def largest_difference(
    plain: TorchEngine, engine: Any, rows: Path, base: Path, folder: Path
) -> float:
    """Both jobs must have computed the same cosines, or the race means nothing."""
    plain_loop(plain, rows, base, folder / "plain.csv")
    predict(engine, rows, base, folder / "ours.csv")
    theirs, ours = (
        [float(row["similarity_score"]) for row in csv.DictReader((folder / name).open(newline=""))]
        for name in ("plain.csv", "ours.csv")
    )
    return float(np.abs(np.array(theirs) - np.array(ours)).max())


def in_turns(contenders: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each."""
    return {
        name: statistics.median(values) for name, values in all_turns(contenders, repeats).items()
    }


def all_turns(contenders: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each turn, after one warm-up, A B A B …"""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in tqdm(range(repeats + 1), disable=None):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


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
        [
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ]
        if Path("/proc/cpuinfo").exists()
        else []
    )
    packages = {
        name: version(name)
        for name in ("torch", "transformers", "open_clip_torch", "onnxruntime", "Pillow")
    }
    return {
        "cpu": names[0] if names else platform.processor(),
        "cpus": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        **packages,
    }


def report(results: dict[str, Any]) -> str:
    """The figures as Markdown tables."""
    lines = [
        "",
        "machine: " + ", ".join(f"{key} {value}" for key, value in results["machine"].items()),
        "",
    ]
    roof = results["roof"]
    lines += [
        f"roof: {roof['fp32'] / 1e9:.0f} GFLOP/s in fp32, {roof['int8'] / 1e9:.0f} GOP/s in int8",
        "",
    ]
    names = list(results["towers"][0]["items_per_second"])
    lines += [
        "| backbone | tower | batch | "
        + " | ".join(f"{name}, items/s" for name in names)
        + " | of fp32's roof | of int8's roof |",
        "|---" * (len(names) + 5) + "|",
    ]
    for row in results["towers"]:
        rates, operations = row["items_per_second"], row["operations"]
        shares = [
            f"{rates[f'onnxruntime {kind}'] * operations / roof[kind]:.0%}"
            for kind in ("fp32", "int8")
        ]
        lines.append(
            f"| {row['backbone']} | {row['tower']} | {row['batch']} |"
            f" {' | '.join(f'{rates[name]:.1f}' for name in names)} | {' | '.join(shares)} |"
        )
    lines += [
        "",
        "| one pair, warm | p50 ms | p95 | p99 | p50 to torch padded to 77 |",
        "|---|---|---|---|---|",
    ]
    for row in results["pair"]:
        first = next(iter(row["milliseconds"].values()))["p50"]
        for name, at in row["milliseconds"].items():
            lines.append(
                f"| {row['backbone']}, {name} | {at['p50']:.1f} | {at['p95']:.1f} | {at['p99']:.1f}"
                f" | {at['p50'] / first:.0%} |"
            )
    if job := results.get("job"):
        plain = next(iter(job["pairs_per_second"].values()))
        lines += [
            "",
            f"{job['rows']} rows, CSV to CSV:",
            "",
            "| job | pairs/s | times the plain loop |",
            "|---|---|---|",
        ]
        lines += [
            f"| {name} | {rate:.1f} | {rate / plain:.2f} |"
            for name, rate in job["pairs_per_second"].items()
        ]
        same = ", ".join(
            f"{name} {value:.1e}"
            for name, value in job["largest_cosine_difference_from_plain_loop"].items()
        )
        lines += ["", f"largest difference of a cosine from the plain loop's: {same}"]
    return "\n".join(lines)


def plot(results: dict[str, Any], path: Path) -> None:
    """Rates as bars, ours in colour."""
    from matplotlib.figure import Figure

    panels = {
        f"{row['backbone']}, {row['tower']}, batch {row['batch']}: items/s": row["items_per_second"]
        for row in results["towers"][:3]
    }
    if job := results.get("job"):
        panels = {f"CSV to CSV, {job['rows']} rows: pairs/s": job["pairs_per_second"], **panels}
    figure = Figure(
        figsize=(9, 0.6 + sum(0.4 + 0.3 * len(rates) for rates in panels.values())),
        layout="constrained",
    )
    axes = figure.subplots(
        len(panels), 1, squeeze=False, height_ratios=[len(rates) for rates in panels.values()]
    )[:, 0]
    for axis, (title, rates) in zip(axes, panels.items(), strict=True):
        names, values = list(rates)[::-1], list(rates.values())[::-1]
        ours = ["mismatch" in name or name.startswith("onnxruntime") for name in names]
        bars = axis.barh(names, values, color=["#1a6fb5" if mine else "#b8b8b8" for mine in ours])
        axis.bar_label(bars, [f"{value:.3g}" for value in values], padding=3, fontsize=8)
        axis.set_title(title, loc="left", fontsize=10)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.1)
    figure.supxlabel(
        f"{results['machine']['cpu']}, {results['machine']['threads']} threads, onnxruntime"
        f" {results['machine']['onnxruntime']}",
        fontsize=8,
    )
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
