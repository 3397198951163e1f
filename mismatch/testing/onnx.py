"""That its towers become ONNX graphs."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path

import torch

from mismatch.backbones.base import Backbone
from mismatch.backbones.faults import root_cause
from mismatch.errors import ContractError
from mismatch.export.graphs import UNTRACEABLE, write_image_encoder, write_text_encoder
from mismatch.export.int8 import quantize
from mismatch.runtime.onnx_graph import Graph
from mismatch.runtime.tokenize import Tokenizer
from mismatch.testing import samples
from mismatch.testing.checks import Checks
from mismatch.testing.outcomes import CLOSE, fail, percent, skip
from mismatch.testing.probes import (
    Array,
    ImageProbe,
    LevelsProbe,
    Probe,
    TextLevelsProbe,
    TextProbe,
    distance,
    probes_of,
    unit,
)

__all__ = ["OnnxChecks", "check_parity", "graph_of"]


INT8_COSINE = 0.99  # of fp32's and int8's embedding, where `int8` is claimed

# folders of graphs, so that each is exported once
_FOLDERS: weakref.WeakKeyDictionary[Backbone, Path] = weakref.WeakKeyDictionary()

_CONSTANT = (
    "a shape or a value of the traced example has become a constant of the graph; use x.shape[0]"
    " for a length, not len(x), and no python loop over rows"
)


class OnnxChecks(Checks):
    """That its towers become ONNX graphs."""

    def test_onnx_export(self, backbone: Backbone) -> None:
        """Both towers export, with any batch and, for `padding="longest"`, any length, and embed as
        torch does.
        """
        images, texts = probes_of(backbone)
        tower: Probe
        for batch in (1, 7):
            tower = ImageProbe(backbone, images.inputs[0][:batch])
            check_parity(
                tower, graph_of(backbone, "encode_image"), images.embed(), f"for a batch of {batch}"
            )
        for chosen in (
            samples.TEXTS,
            samples.TEXTS[:1],
            ("a",),
            samples.TEXTS[-2:],
            (samples.LONG, *samples.TEXTS[:2]),
        ):
            tower = TextProbe(backbone, Tokenizer(backbone.text_spec)(chosen))
            check_parity(
                tower,
                graph_of(backbone, "encode_text"),
                texts.embed(),
                f"for a batch of {len(tower)} of length {tower.inputs[0].shape[1]}",
            )
        for tower in (
            LevelsProbe(backbone, images.inputs[0]),
            TextLevelsProbe(backbone, Tokenizer(backbone.text_spec)(samples.TEXTS)),
        ):
            if tower.width:
                check_parity(
                    tower,
                    graph_of(backbone, tower.name),
                    tower.embed(),
                    f"for a batch of {len(tower)}",
                )

    def test_int8(self, backbone: Backbone) -> None:
        """Where `int8` is claimed, quantised towers embed nearly as in fp32."""
        if not backbone.int8:
            skip("int8 is False: nothing is claimed of quantised towers")
        for tower in probes_of(backbone):
            theirs = graph_of(backbone, tower.name, int8=True)(**tower.feeds)
            cosine = float((unit(tower.embed()) * unit(theirs)).sum(axis=1).min())
            if not cosine >= INT8_COSINE:
                fail(
                    f"int8 is claimed, but {tower.name} quantised has a cosine of {cosine:.4f} with"
                    f" fp32, below {INT8_COSINE}; set int8 = False"
                )


def graph_of(backbone: Backbone, tower: str, *, int8: bool = False) -> Graph:
    """Return the graph of a tower by the name of its probe. It is exported on first use, its levels
    with it, and kept for as long as the backbone lives.
    """
    if backbone not in _FOLDERS:
        _FOLDERS[backbone] = Path(tempfile.mkdtemp(prefix="mismatch-contract-"))
        weakref.finalize(backbone, shutil.rmtree, _FOLDERS[backbone], ignore_errors=True)
    side = "image" if "image" in tower else "text"
    path = _FOLDERS[backbone] / f"{side}.onnx"
    if not path.is_file():
        write, width = (
            (write_image_encoder, backbone.levels_dim)
            if side == "image"
            else (write_text_encoder, backbone.text_levels_dim)
        )
        try:
            write(backbone, path, ("levels",) if width else ())
        except Exception as error:
            raise ContractError(
                f"{tower} can't be exported to ONNX: {root_cause(error)}; {UNTRACEABLE}"
            ) from error
    if int8:
        quantize(path, path.with_suffix(".int8.onnx"))
        path = path.with_suffix(".int8.onnx")
    return Graph(
        path,
        threads=torch.get_num_threads(),
        output=f"{side}_{'features' if tower.endswith('levels') else 'embedding'}",
    )


def check_parity(tower: Probe, graph: Graph, among: Array, where: str) -> None:
    """Raise ContractError where the graph embeds otherwise than torch; `among`: embeddings of
    unlike inputs.
    """
    try:
        theirs = graph(**tower.feeds)[:, -tower.width :]  # levels stand behind their embedding
    except Exception as error:  # onnxruntime's own classes share no base but Exception
        raise ContractError(
            f"{tower.name} exported to ONNX fails {where} ({root_cause(error)}): {_CONSTANT}"
        ) from error
    if (gap := distance(tower.embed(), theirs, among=among)) > CLOSE:
        fail(
            f"{tower.name} exported to ONNX differs from torch {where} ({percent(gap)}):"
            f" {_CONSTANT}"
        )
