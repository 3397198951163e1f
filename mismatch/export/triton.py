"""A bundle → a model repository of Triton Inference Server: both encoders, the head with the
calibration in its graph, and an ensemble of the three.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from mismatch import __version__
from mismatch.errors import CheckpointError, InputError, ParityError
from mismatch.export.pbtxt import Word, each, from_text, to_text
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

__all__ = [
    "Repository",
    "check_repository",
    "check_target",
    "write_repository",
]

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
TYPES = {
    TensorProto.FLOAT: "TYPE_FP32",
    TensorProto.FLOAT16: "TYPE_FP16",
    TensorProto.INT64: "TYPE_INT64",
    TensorProto.INT32: "TYPE_INT32",
}
Message = dict[str, Any]


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
    CheckpointError for a bundle or a target that can't be used, ParityError beyond `TOLERANCE`;
    then nothing of the new one stays and an older one is untouched.
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
        for name in GRAPHS:
            _write_config(folder, name, manifest)
        _write_ensemble(folder, bundle, manifest)
        check_repository(folder)
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


def _copy_graph(graph: Path, version: Path) -> None:
    """Copy a graph as model.onnx. CheckpointError for one whose weights lie in another file, which
    Triton would open, wherever it lies.
    """
    check_self_contained(graph)
    version.mkdir(parents=True)
    shutil.copyfile(graph, version / MODEL)


def _write_config(folder: Path, name: str, manifest: Manifest) -> None:
    """Write config.pbtxt for CPUs; a tower that GPUs can run has one for them too."""
    inputs, outputs = _tensors(folder / name / VERSION / MODEL)
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
    (folder / name / CONFIG).write_text(to_text(cpu, "\n".join([*notes, note])), encoding="utf-8")
    # the head is small and in double precision; int8's operators are the CPU's
    if name == HEAD or manifest.precision == "int8":
        return
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
    (folder / name / GPU).parent.mkdir()
    (folder / name / GPU).write_text(to_text(gpu, "\n".join([*notes, note])), encoding="utf-8")


def _tensors(path: Path) -> tuple[list[Message], list[Message]]:
    """Return inputs and outputs of a graph as a config names them: without the batch, which comes
    first; -1 where a length varies.
    """
    graph = onnx.load(path, load_external_data=False).graph
    weights = {one.name for one in graph.initializer}
    return [_tensor(one) for one in graph.input if one.name not in weights], [
        _tensor(one) for one in graph.output
    ]


def _tensor(value: onnx.ValueInfoProto) -> Message:
    kind = value.type.tensor_type
    dims = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in kind.shape.dim]
    if kind.elem_type not in TYPES or len(dims) < 2 or dims[0] != -1:
        raise CheckpointError(
            f"{value.name} of the bundle's graph has no batch, or a type that Triton doesn't take;"
            " export the bundle again"
        )
    return {"name": value.name, "data_type": Word(TYPES[kind.elem_type]), "dims": dims[1:]}


def _write_ensemble(folder: Path, bundle: Path, manifest: Manifest) -> None:
    """Write the ensemble's config, and, in its version's folder, what a client needs: a store of
    objects would not keep an empty one.
    """
    (folder / ENSEMBLE / VERSION).mkdir(parents=True)
    for name in (MANIFEST, TOKENIZER):
        shutil.copyfile(bundle / name, folder / ENSEMBLE / VERSION / name)
    image, text = seen_by(manifest.head)
    inputs = {name: _tensors(folder / name / VERSION / MODEL)[0] for name in (IMAGE, TEXT)}
    outputs = _tensors(folder / HEAD / VERSION / MODEL)[1]
    steps = [
        _step(IMAGE, [one["name"] for one in inputs[IMAGE]], [image]),
        _step(TEXT, [one["name"] for one in inputs[TEXT]], [text]),
        _step(HEAD, [image, text], [one["name"] for one in outputs]),
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
    (folder / ENSEMBLE / CONFIG).write_text(to_text(config, note), encoding="utf-8")


def _step(model: str, inputs: Sequence[str], outputs: Sequence[str]) -> Message:
    """Return the step of one model of the ensemble; tensors have the same names in both."""
    maps = {
        key: [{"key": name, "value": name} for name in names]
        for key, names in (("input_map", inputs), ("output_map", outputs))
    }
    return {"model_name": model, "model_version": -1, **maps}


def check_repository(folder: Path) -> None:
    """Check a repository as Triton does when it loads one; CheckpointError for the first thing that
    is wrong.

    Every model has a config of its folder's name and a version; a graph's tensors are those of its
    configs; the ensemble's map fits them.
    """
    configs = {
        path.name: _read_config(path / CONFIG) for path in sorted(folder.iterdir()) if path.is_dir()
    }
    for name, config in configs.items():
        versions = [
            path.name for path in (folder / name).iterdir() if path.is_dir() and path.name.isdigit()
        ]
        _expect(config.get("name") == name, f"{name}/{CONFIG} is called {config.get('name')!r}")
        _expect(bool(versions), f"{name} has no folder of a version")
        if config.get("platform") != "ensemble":
            for path in [folder / name / CONFIG, *(folder / name).glob("configs/*.pbtxt")]:
                _check_model(
                    _read_config(path),
                    f"{name}/{path.name}",
                    [folder / name / version / MODEL for version in versions],
                )
    for name, config in configs.items():
        if config.get("platform") == "ensemble":
            _check_ensemble(name, config, configs)


def _read_config(path: Path) -> Message:
    try:
        return from_text(path.read_text(encoding="utf-8"))
    except (OSError, InputError) as error:
        raise CheckpointError(
            f"{path} can't be read: {error}; export the repository again"
        ) from error


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise CheckpointError(f"Triton would refuse the repository: {what}; export it again")


def _check_model(config: Message, where: str, graphs: Sequence[Path]) -> None:
    _expect(config.get("backend") == "onnxruntime", f"{where} has no backend")
    most = config.get("max_batch_size", 0)
    preferred = each(config.get("dynamic_batching", {}), "preferred_batch_size")
    _expect(
        most > 0 and all(0 < size <= most for size in preferred),
        f"{where} prefers batches of {preferred} with at most {most} rows",
    )
    for graph in graphs:
        _expect(graph.is_file(), f"{where} has no {graph.name}")
        for kind, tensors in zip(("input", "output"), _tensors(graph), strict=True):
            said = [{**one, "dims": each(one, "dims")} for one in each(config, kind)]
            _expect(said == tensors, f"the {kind}s of {where} are not those of its graph")


def _check_ensemble(name: str, config: Message, configs: Mapping[str, Message]) -> None:
    """Check that each input of each step is an input of the ensemble or an output of another step,
    of its type and shape. Each output is made once. CheckpointError otherwise.
    """
    known = {one["name"]: one for one in each(config, "input")}
    made: list[str] = []
    wanted: list[tuple[str, Message]] = [(one["name"], one) for one in each(config, "output")]
    for step in each(config["ensemble_scheduling"], "step"):
        model = configs.get(step["model_name"])
        _expect(model is not None, f"{name} has a step of {step['model_name']}, which is not there")
        model = model or {}
        _expect(
            model["max_batch_size"] >= config["max_batch_size"],
            f"{name} allows larger batches than {step['model_name']}",
        )
        inputs, outputs = (
            {one["name"]: one for one in each(model, kind)} for kind in ("input", "output")
        )
        mapped = {one["key"]: one["value"] for one in each(step, "input_map")}
        _expect(
            set(mapped) == set(inputs),
            f"{name} maps {sorted(mapped)} to the inputs {sorted(inputs)} of {step['model_name']}",
        )
        wanted += [(value, inputs[key]) for key, value in mapped.items()]
        for one in each(step, "output_map"):
            _expect(
                one["key"] in outputs,
                f"{name} maps the output {one['key']}, which {step['model_name']} doesn't have",
            )
            made.append(one["value"])
            known[one["value"]] = outputs[one["key"]]
    _expect(len(made) == len(set(made)), f"{name} has two steps that make the same tensor")
    for tensor, one in wanted:
        _expect(tensor in known, f"no step of {name} makes {tensor}")
        same = all(known[tensor][key] == one[key] for key in ("data_type", "dims"))
        _expect(
            same,
            f"{tensor} of {name} has one type or shape where it is made and another where it is"
            " taken",
        )
    unused = {one["name"] for one in each(config, "input")} - {tensor for tensor, _ in wanted}
    _expect(not unused, f"no step of {name} takes {sorted(unused)}")


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
    own = Graph(bundle / GRAPHS[HEAD])(**feeds)
    logits = Graph(head, output="logit")(**feeds)[:, 0]
    scores = Graph(head, output="similarity_score")(**feeds)[:, 0]
    difference = float(np.abs(scores - scores_from_logits(own, manifest.score)).max())
    if not (difference <= TOLERANCE and np.allclose(logits, own, rtol=1e-5, atol=1e-6)):
        raise ParityError(
            f"scores of the repository differ by {difference:.1e} from mismatch's own, more than"
            f" {TOLERANCE:g}; nothing was written"
        )
    return difference
