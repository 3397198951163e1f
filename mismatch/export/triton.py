"""Turn a bundle into a model repository of Triton Inference Server: both encoders, the head with
its calibration, and an ensemble of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from mismatch import __version__
from mismatch.errors import CheckpointError, ParityError
from mismatch.export.pbtxt import Config, Message, Word, is_as_written
from mismatch.export.triton_check import check_repository, graph_tensors
from mismatch.export.triton_head import with_score
from mismatch.export.triton_names import (
    CONFIG,
    ENSEMBLE,
    FILES,
    GPU,
    GRAPHS,
    HEAD,
    IMAGE,
    MODEL,
    TEXT,
    VERSION,
)
from mismatch.io.atomic import atomic_directory, sha256_file
from mismatch.io.outputs import refuse_model_folder
from mismatch.runtime.bundle import (
    MANIFEST,
    TOKENIZER,
    Manifest,
    looks_like_bundle,
    read_bundle,
    seen_by,
)
from mismatch.runtime.graph_file import check_self_contained
from mismatch.runtime.onnx_graph import Graph
from mismatch.runtime.scoring import scores_from_logits

__all__ = ["Repository", "check_target", "write_repository"]

MAX_BATCH = 64  # rows; an ensemble's may not exceed its models'
BATCHING = {
    "preferred_batch_size": [16, 32],  # rows that don't wait for more
    "max_queue_delay_microseconds": 2_000,
    "default_queue_policy": {
        "timeout_action": Word("REJECT"),
        "default_timeout_microseconds": 30_000_000,
        "max_queue_size": 512,
    },
}
CUDA = {"name": "cuda", "parameters": [{"key": "use_tf32", "value": "0"}]}
TOLERANCE = 1e-6  # between a score of the repository and mismatch's own


@dataclass(frozen=True)
class Repository:
    """What was written, and how its scores compare with mismatch's own."""

    folder: Path
    bytes: int  # of all files
    difference: float  # of scores, at most
    precision: str


def write_repository(bundle: Path, target: Path) -> Repository:
    """Write the repository of a bundle to `target`, replacing an older one there.

    It is checked as Triton checks it, and its head against `scores_from_logits`. Raises
    CheckpointError for a bundle or a target that can't be used, ParityError beyond `TOLERANCE`.
    Then nothing of the new one stays and an older one is untouched.
    """
    manifest = read_bundle(bundle)
    check_target(target, bundle)
    with atomic_directory(target) as folder:
        for name, graph in GRAPHS.items():
            _copy_graph(bundle / graph, folder / name / VERSION)
        onnx.save(
            with_score(
                onnx.load(folder / HEAD / VERSION / MODEL, load_external_data=False), manifest.score
            ),
            folder / HEAD / VERSION / MODEL,
        )
        configs = {name: _configs(folder, name, manifest) for name in GRAPHS}
        configs[ENSEMBLE] = _write_ensemble(folder, bundle, manifest)
        check_repository(folder, configs)
        for name, files in configs.items():
            for file, config in files.items():
                (folder / name / file).parent.mkdir(exist_ok=True)
                text = config.text()
                (folder / name / file).write_text(text, encoding="utf-8")
        difference = _compare(bundle, folder, manifest)
        check_target(target, bundle)  # whatever has come there meanwhile is not lost
    return Repository(
        target,
        sum(file.stat().st_size for file in target.rglob("*") if file.is_file()),
        difference,
        manifest.precision,
    )


def check_target(target: Path, bundle: Path | None = None) -> None:
    """Refuse to replace anything but an older repository of ours, with no other model in it, or an
    empty folder. Refuse one within the bundle too.
    """
    if bundle is not None and bundle.resolve() in (target.resolve(), *target.resolve().parents):
        raise CheckpointError(
            f"{target} lies in the bundle {bundle}, which holds its own files only; choose another"
            " `triton`"
        )
    refuse_model_folder(target, "`triton`")
    if target.exists() and not target.is_dir():
        raise CheckpointError(f"{target} is a file; choose another `triton`")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not looks_like_bundle(target / ENSEMBLE / VERSION):
        raise CheckpointError(
            f"{target} exists and is not a repository that mismatch wrote; choose another `triton`"
        )
    if foreign := sorted({path.name for path in target.iterdir()} - {ENSEMBLE, *GRAPHS}):
        raise CheckpointError(
            f"{target} holds other models too ({', '.join(foreign[:3])}), which would be lost;"
            " choose another `triton`"
        )
    files = (path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir())
    if others := sorted(name for name in files if name not in FILES):
        raise CheckpointError(
            f"{target} holds other files too ({', '.join(others[:3])}), which would be lost; choose"
            " another `triton`"
        )
    configs = sorted(path for path in target.rglob("*.pbtxt"))
    if tuned := [path for path in configs if not is_as_written(path.read_bytes())]:
        raise CheckpointError(
            f"{tuned[0]} is not as an export wrote it (changed by hand, or of an earlier version),"
            " and would be lost; move the repository away, or choose another `triton`"
        )


def _copy_graph(graph: Path, version: Path) -> None:
    """Copy a graph as model.onnx. CheckpointError for one whose weights lie in another file, which
    Triton would open, wherever it lies.
    """
    check_self_contained(graph)
    version.mkdir(parents=True)
    shutil.copyfile(graph, version / MODEL)


def _configs(folder: Path, name: str, manifest: Manifest) -> dict[str, Config]:
    """Return the config.pbtxt for CPUs, and for a tower that GPUs can run one for them too."""
    inputs, outputs = graph_tensors(folder / name / VERSION / MODEL)
    common = {
        "name": name,
        "backend": "onnxruntime",
        "max_batch_size": MAX_BATCH,
        "input": inputs,
        "output": outputs,
        "dynamic_batching": BATCHING,
    }
    notes = [
        (
            f"Written by mismatch {__version__}, export-onnx --triton, from a bundle in"
            f" {manifest.precision}."
        )
    ]
    if name == TEXT and manifest.text_spec.padding == "longest":
        notes.append(
            "Triton batches requests of equal shape only: pad texts to a multiple of 16 tokens,"
            " say, as examples/triton_client.py does."
        )
    threads = {"key": "intra_op_thread_count", "value": {"string_value": "0"}}
    cpu = {
        **common,
        "instance_group": [{"kind": Word("KIND_CPU"), "count": 1}],
        "parameters": [threads],
    }
    note = (
        "intra_op_thread_count 0 is one thread a core that the container sees, whatever its quota"
        " of CPU time: with a quota, set it to that."
    )
    configs = {CONFIG: Config(cpu, [*notes, note])}
    # the head is small and in double precision; int8's operators are the CPU's
    if name == HEAD or manifest.precision == "int8":
        return configs
    accelerators = {"execution_accelerators": {"gpu_execution_accelerator": [CUDA]}}
    gpu = {
        **common,
        "instance_group": [{"kind": Word("KIND_GPU"), "count": 1}],
        "optimization": accelerators,
    }
    note = (
        "For GPUs: tritonserver --model-config-name gpu. fp32 means fp32: TF32 would keep 10 bits"
        " of each factor."
    )
    configs[GPU] = Config(gpu, [*notes, note])
    return configs


def _write_ensemble(folder: Path, bundle: Path, manifest: Manifest) -> dict[str, Config]:
    """Write, in the ensemble's folder of a version, what a client needs: a store of objects would
    not keep an empty one. Return its config.
    """
    (folder / ENSEMBLE / VERSION).mkdir(parents=True)
    for name in (MANIFEST, TOKENIZER):
        shutil.copyfile(bundle / name, folder / ENSEMBLE / VERSION / name)
    image, text = seen_by(manifest.head)
    inputs = {name: graph_tensors(folder / name / VERSION / MODEL)[0] for name in (IMAGE, TEXT)}
    outputs = graph_tensors(folder / HEAD / VERSION / MODEL)[1]
    steps = [
        _step(IMAGE, [tensor["name"] for tensor in inputs[IMAGE]], [image]),
        _step(TEXT, [tensor["name"] for tensor in inputs[TEXT]], [text]),
        _step(HEAD, [image, text], [tensor["name"] for tensor in outputs]),
    ]
    facts = {
        "manifest_sha256": sha256_file(bundle / MANIFEST),
        "score": manifest.score.kind,
        "threshold": repr(manifest.score.threshold_in_use),
        "long_text": manifest.score.long_text,
    }
    config = {
        "name": ENSEMBLE,
        "platform": "ensemble",
        "max_batch_size": MAX_BATCH,
        "input": [*inputs[IMAGE], *inputs[TEXT]],
        "output": outputs,
        "ensemble_scheduling": {"step": steps},
        "parameters": [
            {"key": key, "value": {"string_value": value}} for key, value in facts.items()
        ],
    }
    note = (
        f"Written by mismatch {__version__}, export-onnx --triton. A pair is a match where"
        " similarity_score is at least the threshold below."
    )
    return {CONFIG: Config(config, [note])}


def _step(model: str, inputs: Sequence[str], outputs: Sequence[str]) -> Message:
    """Return the step of one model of the ensemble; tensors have the same names in both."""
    maps = {
        key: [{"key": name, "value": name} for name in names]
        for key, names in (("input_map", inputs), ("output_map", outputs))
    }
    return {"model_name": model, "model_version": -1, **maps}


def _compare(bundle: Path, folder: Path, manifest: Manifest) -> float:
    """Return the largest difference between the repository's scores and mismatch's own, of random
    embeddings; ParityError beyond `TOLERANCE`.
    """
    head = folder / HEAD / VERSION / MODEL
    random = np.random.default_rng(0)
    widths = (manifest.head.image_width, manifest.head.text_width)
    feeds: dict[str, NDArray[Any]] = {
        name: random.standard_normal((256, width)).astype(np.float32)
        for name, width in zip(seen_by(manifest.head), widths, strict=True)
    }
    expected = Graph(bundle / GRAPHS[HEAD])(**feeds)
    logits = Graph(head, output="logit")(**feeds)[:, 0]
    scores = Graph(head, output="similarity_score")(**feeds)[:, 0]
    difference = float(np.abs(scores - scores_from_logits(expected, manifest.score)).max())
    if not (difference <= TOLERANCE and np.allclose(logits, expected, rtol=1e-5, atol=1e-6)):
        raise ParityError(
            f"scores of the repository differ by {difference:.1e} from mismatch's own, more than"
            f" {TOLERANCE:g}; nothing was written"
        )
    return difference
