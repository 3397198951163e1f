"""The check of a model repository as Triton checks one that it loads, and a graph's tensors as a
config names them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto

from mismatch.errors import CheckpointError
from mismatch.export.pbtxt import Config, Message, Word
from mismatch.export.triton_names import CONFIG, ENSEMBLE, MODEL

__all__ = ["check_repository", "graph_tensors"]

TYPES = {
    TensorProto.FLOAT: "TYPE_FP32",
    TensorProto.FLOAT16: "TYPE_FP16",
    TensorProto.INT64: "TYPE_INT64",
    TensorProto.INT32: "TYPE_INT32",
}


def check_repository(folder: Path, configs: Mapping[str, Mapping[str, Config]]) -> None:
    """Check a repository as Triton does when it loads one; CheckpointError for the first thing that
    is wrong.

    `configs`: of each model, by file. Every model has a config of its folder's name and a version;
    a graph's tensors are those of its configs; the ensemble's map fits them.
    """
    models: dict[str, Message] = {}
    for name, files in configs.items():
        models[name] = files[CONFIG].message
        called = models[name].get("name")
        _expect(called == name, f"{name}/{CONFIG} is called {called!r}")
        versions = [
            path for path in (folder / name).iterdir() if path.is_dir() and path.name.isdigit()
        ]
        _expect(bool(versions), f"{name} has no folder of a version")
        if name != ENSEMBLE:
            for file, config in files.items():
                graphs = [path / MODEL for path in versions]
                _check_model(config.message, f"{name}/{file}", graphs)
    _check_ensemble(ENSEMBLE, models)


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise CheckpointError(f"Triton would refuse the repository: {what}; export it again")


def _check_model(config: Message, where: str, graphs: Sequence[Path]) -> None:
    _expect(config.get("backend") == "onnxruntime", f"{where} has no backend")
    max_batch = config["max_batch_size"]
    preferred = config["dynamic_batching"]["preferred_batch_size"]
    _expect(
        max_batch > 0 and all(0 < size <= max_batch for size in preferred),
        f"{where} prefers batches of {preferred} with at most {max_batch} rows",
    )
    for graph in graphs:
        _expect(graph.is_file(), f"{where} has no {graph.name}")
        for kind, tensors in zip(("input", "output"), graph_tensors(graph), strict=True):
            _expect(config[kind] == tensors, f"the {kind}s of {where} are not those of its graph")


def _check_ensemble(name: str, models: Mapping[str, Message]) -> None:
    """Check that each input of each step is an input of the ensemble or an output of another step,
    of its type and shape. Each output is made once. CheckpointError otherwise.
    """
    config = models[name]
    available = _by_name(config["input"])
    made: list[str] = []
    wanted: list[tuple[str, Message]] = [(tensor["name"], tensor) for tensor in config["output"]]
    for step in config["ensemble_scheduling"]["step"]:
        step_model = step["model_name"]
        _expect(step_model in models, f"{name} has a step of {step_model}, which is not there")
        model = models[step_model]
        _expect(
            model["max_batch_size"] >= config["max_batch_size"],
            f"{name} allows larger batches than {step_model}",
        )
        inputs = _by_name(model["input"])
        outputs = _by_name(model["output"])
        mapped = {pair["key"]: pair["value"] for pair in step["input_map"]}
        _expect(
            set(mapped) == set(inputs),
            f"{name} maps {sorted(mapped)} to the inputs {sorted(inputs)} of {step_model}",
        )
        wanted += [(value, inputs[key]) for key, value in mapped.items()]
        for pair in step["output_map"]:
            _expect(
                pair["key"] in outputs,
                f"{name} maps the output {pair['key']}, which {step_model} doesn't have",
            )
            made.append(pair["value"])
            available[pair["value"]] = outputs[pair["key"]]
    _expect(len(made) == len(set(made)), f"{name} has two steps that make the same tensor")
    _check_tensors(name, available, wanted)
    unused = {tensor["name"] for tensor in config["input"]} - {tensor for tensor, _ in wanted}
    _expect(not unused, f"no step of {name} takes {sorted(unused)}")


def _check_tensors(
    name: str, available: Mapping[str, Message], wanted: Sequence[tuple[str, Message]]
) -> None:
    for tensor, taken in wanted:
        _expect(tensor in available, f"no step of {name} makes {tensor}")
        same = all(available[tensor][key] == taken[key] for key in ("data_type", "dims"))
        _expect(
            same,
            f"{tensor} of {name} has one type or shape where it is made and another where it is"
            " taken",
        )


def _by_name(tensors: Sequence[Message]) -> dict[str, Message]:
    return {tensor["name"]: tensor for tensor in tensors}


def graph_tensors(path: Path) -> tuple[list[Message], list[Message]]:
    """Return inputs and outputs of a graph as a config names them: without the batch, which comes
    first; -1 where a length varies.
    """
    graph = onnx.load(path, load_external_data=False).graph
    weights = {weight.name for weight in graph.initializer}
    inputs = [_tensor(value) for value in graph.input if value.name not in weights]
    return inputs, [_tensor(value) for value in graph.output]


def _tensor(value: onnx.ValueInfoProto) -> Message:
    kind = value.type.tensor_type
    dims = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in kind.shape.dim]
    if kind.elem_type not in TYPES or len(dims) < 2 or dims[0] != -1:
        raise CheckpointError(
            f"{value.name} of the bundle's graph has no batch, or a type that Triton doesn't take;"
            " export the bundle again"
        )
    return {"name": value.name, "data_type": Word(TYPES[kind.elem_type]), "dims": dims[1:]}
