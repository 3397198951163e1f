"""mismatch.backbones.faults: an exception of a backbone's own code carries its plugin's name, in
training, export and prediction.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mismatch
from mismatch.backbones import registry
from mismatch.backbones.faults import plugin_error, plugin_errors
from mismatch.errors import BackboneError, InputError
from mismatch.export.graphs import UNTRACEABLE, write_image_encoder
from mismatch.io.text import did_you_mean
from tests.support.backbones import ToyBackbone, toy_family

PLACE = r"backbone 'faulty' of mismatch-faulty 1\.5 fails at test_faults\.py, line \d+, in {}"


class Faulty(ToyBackbone):
    """Fails where it is told to."""

    fault = ""
    shared_space = True
    zero_shot_threshold = 0.25  # type: ignore[assignment]

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        if self.fault == "image":
            raise ValueError("no such picture")
        if self.fault == "torch":
            return super().encode_image(pixel_values @ torch.ones(3, 3))
        if self.fault == "memory":
            raise MemoryError
        if self.fault == "ours":
            raise InputError("a word of mismatch's own")
        if self.fault == "branch" and pixel_values.sum() > 0:
            return 2 * super().encode_image(pixel_values)
        return super().encode_image(pixel_values)

    def save_pretrained(self, directory: Path) -> None:
        if self.fault == "save":
            raise KeyError("weights")
        super().save_pretrained(directory)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Faulty:
    backbone = Faulty(widths=(7, 7), model_id="small")
    family = replace(
        toy_family("faulty", lambda model_id: backbone),
        distribution="mismatch-faulty",
        version="1.5",
        module=f"{__name__}:hooks",
    )
    found = registry.Registry({"faulty": family}, ())
    monkeypatch.setattr(registry, "_installed", lambda: found)
    return backbone


@pytest.mark.parametrize(
    ("fault", "where", "words"),
    [
        ("image", "encode_image", "ValueError: no such picture"),
        ("torch", "encode_image", "RuntimeError: "),
        ("save", "save_pretrained", "KeyError: 'weights'"),
    ],
)
def test_training_says_whose_code_fails(
    faulty: Faulty, colour_images: Path, tmp_path: Path, fault: str, where: str, words: str
) -> None:
    faulty.fault = fault
    rows = [
        {"image_path": str(colour_images / f"{colour}.png"), "text": text, "label": colour == text}
        for colour in ("red", "blue")
        for text in ("red", "blue")
    ]
    with pytest.raises(BackboneError, match=PLACE.format(where) + f": {words}"):
        mismatch.train(
            train_csv=[row | {"label": int(row["label"])} for row in rows],
            backbone="faulty",
            val_fraction=0,
            epochs=1,
            output_dir=tmp_path / "run",
        )


def test_prediction_says_whose_code_fails(faulty: Faulty, colour_images: Path) -> None:
    model = mismatch.load("faulty")
    faulty.fault = "image"
    with pytest.raises(BackboneError, match=PLACE.format("encode_image")):
        model.predict(colour_images / "red.png", "red")


def test_what_can_t_be_traced_is_one_line_with_the_author_s_own(
    faulty: Faulty, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    faulty.fault = "branch"
    with pytest.raises(BackboneError, match=PLACE.format("encode_image")) as caught:
        write_image_encoder(faulty, tmp_path / "image.onnx")
    assert "encode_image can't be exported to ONNX" in str(caught.value)
    assert UNTRACEABLE in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("fault", "kind"), [("memory", MemoryError), ("ours", InputError)])
def test_what_is_none_of_its_faults_passes_as_it_is(
    faulty: Faulty, fault: str, kind: type[Exception]
) -> None:
    faulty.fault = fault
    with pytest.raises(kind) as caught, plugin_errors():
        faulty.encode_image(torch.zeros(1, 3, 8, 8))
    assert plugin_error(caught.value) is None


@pytest.mark.usefixtures("faulty")
def test_an_error_of_ours_below_a_plugin_is_ours() -> None:
    def raised(act: Any) -> Exception:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whichever it is
            return error
        raise AssertionError

    text: Any = 5
    assert plugin_error(raised(lambda: did_you_mean(text, ["a"]))) is None
    assert plugin_error(raised(lambda: 1 // 0)) is not None
