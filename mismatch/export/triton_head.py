"""The head's graph with the score inside, for servers that run graphs and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mismatch.specs import Calibration, ScoreSpec

__all__ = ["with_score"]


def with_score(head: onnx.ModelProto, score: ScoreSpec) -> onnx.ModelProto:
    """Turn a head whose output is `logit` (B,) into one with `logit` and `similarity_score`. These
    are (B, 1) each, in double precision as `scores_from_logits` has it.
    """
    model = onnx.ModelProto()
    model.CopyFrom(head)
    graph = model.graph
    _rename(graph, "logit", "score/row")
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "score/axis"))
    nodes = [helper.make_node("Unsqueeze", ["score/row", "score/axis"], ["logit"])]
    if score.kind == "cosine":
        nodes.append(helper.make_node("Identity", ["logit"], ["similarity_score"]))
    else:
        nodes.append(helper.make_node("Cast", ["logit"], ["score/logit"], to=TensorProto.DOUBLE))
        odds = (
            "score/logit"
            if score.calibration is None
            else _add_log_odds(graph, nodes, score.calibration)
        )
        nodes.append(helper.make_node("Sigmoid", [odds], ["score/probability"]))
        nodes.append(
            helper.make_node(
                "Cast", ["score/probability"], ["similarity_score"], to=TensorProto.FLOAT
            )
        )
    graph.node.extend(nodes)
    del graph.output[:]
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1])
        for name in ("logit", "similarity_score")
    )
    onnx.checker.check_model(model)
    return model


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == old:
                    names[position] = new


def _add_log_odds(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], calibration: Calibration
) -> str:
    """Add `scoring.log_odds` of score/logit (B, 1), operator by operator; return the name of what
    it gives, (B, 1).
    """

    def constant(name: str, values: Any) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(values), f"score/{name}"))
        return f"score/{name}"

    def add(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [f"score/{output}"], **attributes))
        return f"score/{output}"

    scaled = add("Mul", ["score/logit", constant("slope", np.float64(calibration.slope))], "scaled")
    straight = add(
        "Add", [scaled, constant("intercept", np.float64(calibration.intercept))], "straight"
    )
    if calibration.kind != "piecewise":
        return straight
    # (K,) each
    knots = np.array(calibration.knots)
    bent = np.array(calibration.bent)
    # (B, K - 2)
    beyond = add(
        "Cast",
        [add("GreaterOrEqual", [straight, constant("inner", knots[1:-1])], "beyond")],
        "ones",
        to=TensorProto.INT64,
    )
    # (B, 1), which of the K - 1 lines
    part = add("ReduceSum", [beyond, "score/axis"], "part", keepdims=1)
    slope, left, value = (
        add("Gather", [constant(f"{name}s", values), part], name)
        for name, values in (
            ("line", np.diff(bent) / np.diff(knots)),
            ("knot", knots[:-1]),
            ("bent", bent[:-1]),
        )
    )
    return add(
        "Add", [value, add("Mul", [slope, add("Sub", [straight, left], "over")], "risen")], "odds"
    )
