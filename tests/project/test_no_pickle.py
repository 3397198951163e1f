"""Nothing is ever unpickled from a model, a run or a cache: in each place where a pickle could lie
there is one that would leave a file.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mismatch
from mismatch.backbones.registry import load_backbone
from mismatch.errors import MismatchError
from mismatch.jobs.quickstart_model import write_backbone
from mismatch.training import TrainConfig, train
from mismatch.training.callbacks import Callback, EpochInfo
from tests.support.paths import ROOT

READERS = re.compile(
    r"\b(import|from)"
    r" (pickle|dill|joblib|shelve|marshal)\b|allow_pickle=True|trust_remote_code=True"
)


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "sprung"


@pytest.fixture
def trap(mark: Path) -> bytes:
    """A pickle; that it works is seen first."""
    found = pickle.dumps(Trap(mark))
    pickle.loads(found)  # noqa: S301 (the test's own)
    assert mark.exists()
    mark.unlink()
    return found


def torch_file(mark: Path, path: Path) -> None:
    """A trap as torch.save writes it."""
    torch.save({"weights": Trap(mark)}, path)


def refused(act: Callable[[], object]) -> str:
    """What a user is told."""
    with pytest.raises(MismatchError) as error:
        act()
    return str(error.value)


@pytest.mark.parametrize(
    ("family", "name"),
    [("hf-clip", "pytorch_model.bin"), ("openclip", "open_clip_pytorch_model.bin")],
)
@pytest.mark.parametrize("form", ["torch", "plain"])
def test_weights_of_a_local_directory(
    tmp_path: Path, mark: Path, trap: bytes, family: str, name: str, form: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    load_backbone(f"{family}:tiny").save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    if form == "torch":
        torch_file(mark, folder / name)
    else:
        (folder / name).write_bytes(trap)
    assert str(folder) in refused(lambda: load_backbone(family, str(folder)))
    assert str(folder) in refused(lambda: mismatch.load(f"{family}:{folder}"))
    assert not mark.exists()


@pytest.mark.parametrize("form", ["torch", "plain"])
def test_a_checkpoint_file_of_open_clip(tmp_path: Path, mark: Path, trap: bytes, form: str) -> None:
    path = tmp_path / "weights.pt"
    if form == "torch":
        torch_file(mark, path)
    else:
        path.write_bytes(trap)
    refused(lambda: load_backbone("openclip", f"ViT-B-32/{path}"))
    assert not mark.exists()


def test_code_that_a_configuration_names(tmp_path: Path, mark: Path) -> None:
    """transformers would import it where it is trusted."""
    folder = tmp_path / "model"
    folder.mkdir()
    load_backbone("hf-clip:tiny").save_pretrained(folder)
    (folder / "evil.py").write_text(
        f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nfrom transformers import CLIPConfig"
        " as Config, CLIPModel as Model\n"
    )
    for file in ("config.json", "preprocessor_config.json", "tokenizer_config.json"):
        if (folder / file).exists():
            names = {
                "AutoConfig": "evil.Config",
                "AutoModel": "evil.Model",
                "AutoTokenizer": ["evil.Config", "evil.Config"],
                "AutoImageProcessor": "evil.Model",
            }
            content = json.loads((folder / file).read_text()) | {
                "auto_map": names,
                "trust_remote_code": True,
            }
            (folder / file).write_text(json.dumps(content))
    (folder / "config.json").write_text(
        json.dumps(json.loads((folder / "config.json").read_text()) | {"model_type": "evil"})
    )
    refused(lambda: load_backbone("hf-clip", str(folder)))
    assert not mark.exists()


@pytest.mark.parametrize("options", [{}, {"trust_remote_code": True}])
@pytest.mark.parametrize("part", ["tokenizer", "text tower"])
def test_code_that_a_folder_of_open_clip_names(
    tmp_path: Path,
    mark: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    options: dict[str, bool],
) -> None:
    """transformers would import it where open_clip hands `options` on, or ask on the terminal."""
    folder = tmp_path / "model"
    write_backbone(folder, 0)
    (folder / "evil.py").write_text(
        f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nclass Evil: pass\n"
    )
    config = json.loads((folder / "open_clip_config.json").read_text())
    text = config["model_cfg"]["text_cfg"]
    if options:
        text["tokenizer_kwargs"] = options
    if part == "text tower":
        text |= {"hf_model_name": "evil", "hf_pooler_type": "mean_pooler"}
        names: dict[str, Any] = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}
        tower = {"model_type": "evil", "auto_map": names}
        (folder / "config.json").write_text(json.dumps(tower))
    else:
        file = folder / "tokenizer_config.json"
        names = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
        own = {"auto_map": names, "tokenizer_class": "Evil"}
        file.write_text(json.dumps(json.loads(file.read_text()) | own))
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    asked: list[str] = []

    def agree(question: str) -> str:
        asked.append(question)
        return "y"

    monkeypatch.setattr("builtins.input", agree)
    refused(lambda: load_backbone("openclip", str(folder)))
    assert not mark.exists()
    assert not asked


def test_a_checkpoint_of_ours(
    tiny_checkpoints: dict[str, Path], tmp_path: Path, mark: Path, trap: bytes
) -> None:
    """Extra files are not looked at; a pickle in the place of weights is refused."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoints["hf-clip"], folder)
    for name in (
        "pytorch_model.bin",
        "optimizer.pt",
        "training_state.pt",
        "tokenizer.pkl",
        "head.pt",
    ):
        (folder / name).write_bytes(trap)
    assert mismatch.load(folder, "cpu").threshold == 0.4321
    for path in sorted(folder.glob("*.safetensors")):
        whole = path.read_bytes()
        torch_file(mark, path)
        refused(lambda: mismatch.load(folder, "cpu"))
        path.write_bytes(trap)
        refused(lambda: mismatch.load(folder, "cpu"))
        path.write_bytes(whole)
    assert not mark.exists()


def test_the_state_of_a_run_that_is_resumed(
    tmp_path: Path, mark: Path, trap: bytes, write_rows: Any
) -> None:
    for i in range(6):
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
    rows = write_rows(
        tmp_path / "rows.csv",
        [("image_path", "text", "label"), *[(f"{i}.png", f"shirt {i}", i % 2) for i in range(6)]],
    )
    common: dict[str, Any] = {
        "train_csv": str(rows),
        "val_csv": str(rows),
        "image_base_path": str(tmp_path),
        "output_dir": str(tmp_path / "run"),
    }
    common |= {
        "backbone": "hf-clip",
        "model_name": "tiny",
        "tune": "head",
        "device": "cpu",
        "num_workers": 1,
        "cache": str(tmp_path / "cache"),
    }

    class Stop(Callback):
        def on_epoch_end(self, epoch: EpochInfo) -> None:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train(TrainConfig(**common, epochs=3), callbacks=[Stop()])
    states = list((tmp_path / "run").rglob("*.pt"))
    assert states, "a state lies there"
    for form in ("torch", "plain"):
        for path in states:
            if form == "torch":
                torch_file(mark, path)
            else:
                path.write_bytes(trap)
        assert str(states[0].name) in refused(
            lambda: train(TrainConfig(**common, epochs=3, resume=True))
        )
    assert not mark.exists()


def test_a_cache_of_embeddings(
    tiny_bundles: dict[str, Path], colour_images: Path, tmp_path: Path, mark: Path
) -> None:
    """An array of objects is a pickle; it is not read, and what it stood for is encoded again."""
    rows = [{"image_path": f"{name}.png", "text": "red"} for name in ("red", "green", "blue")]

    def scores() -> list[float | None]:
        predictor = mismatch.load(
            tiny_bundles["hf-clip"], "cpu", threads=1, cache=tmp_path / "cache"
        )
        return [
            one.similarity_score
            for one in predictor.predict_pairs(rows, image_base_path=colour_images)
        ]

    expected = scores()
    arrays = list((tmp_path / "cache").rglob("*.npy"))
    assert arrays
    for path in arrays:
        objects = np.empty(len(np.load(path)), object)
        objects[:] = [Trap(mark)] * len(objects)
        np.save(path, objects, allow_pickle=True)
    assert scores() == expected
    assert not mark.exists()


def test_no_line_of_the_library_unpickles() -> None:
    """Each torch.load says weights_only=True, each np.load of files that live on
    allow_pickle=False, and no other reader of pickles is named.
    """
    for path in [
        *(ROOT / "mismatch").rglob("*.py"),
        *(ROOT / "plugins").rglob("*.py"),
        *(ROOT / "examples").rglob("mismatch_lit/*.py"),
    ]:
        text = path.read_text(encoding="utf-8")
        for call in re.findall(r"torch\.load\([^\n]*", text):
            assert "weights_only=True" in call or "`torch.load" in text, (path, call)
        assert not READERS.search(text), path
