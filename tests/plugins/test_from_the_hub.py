"""Models of the hub, as the families load them: from an empty cache, at a commit, offline after."""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image

import mismatch
from mismatch.errors import BackboneError
from tests.support.hub import Hub, hub_server
from tests.support.hub_models import (
    CLIP,
    LAION,
    SIGLIP2,
    SMALL_VIT_B_32,
    VIT_B_32,
    bert_tokenizer_files,
    clip_files,
    laion_files,
    sharded,
    siglip2_files,
    small_architectures,
)
from tests.support.paths import ROOT
from tests.support.processes import finished
from tests.support.rows import write_rows

TOKENIZER = "shop/tokenizer"
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def made(module_folder: Path) -> dict[str, Files]:
    """The files of each repository."""
    folders = [module_folder / name for name in ("clip", "safe", "siglip2", "laion", "words")]
    for folder in folders:
        folder.mkdir()
    clip, safe, siglip2, laion, words = folders
    return {
        CLIP: clip_files(clip),
        "safetensors": clip_files(safe, safetensors=True),
        SIGLIP2: siglip2_files(siglip2),
        LAION: laion_files(laion),
        "pickled": laion_files(laion, pickled=True),
        TOKENIZER: bert_tokenizer_files(words),
    }


@pytest.fixture
def small_vit(tmp_path: Path) -> Iterator[None]:
    """open_clip's ViT-B-32 with towers of one layer."""
    before = open_clip.factory._MODEL_CONFIG_PATHS[:]
    open_clip.add_model_config(small_architectures(tmp_path / "architectures"))
    yield
    open_clip.factory._MODEL_CONFIG_PATHS[:] = before
    open_clip.factory._rescan_model_configs()


def embedding(backbone: Any) -> torch.Tensor:
    """Return what tells two models' weights from each other."""
    with torch.no_grad():
        images = backbone.encode_image(torch.full((1, 3, 64, 64), 0.5))
        ids = backbone.upstream_tokenizer(["a red bag"])
        return torch.cat([images, backbone.encode_text(ids, torch.ones_like(ids))])


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


# --- hf-clip


def test_the_layouts_of_one_clip_load_alike(hub: Hub, made: dict[str, Files]) -> None:
    """As a pickle with its configuration of 2022, as safetensors, and as these in parts."""
    layouts = {
        CLIP: made[CLIP],
        "shop/safe": made["safetensors"],
        "shop/parts": sharded(made["safetensors"]),
    }
    embeddings = []
    for name, files in layouts.items():
        commit = hub.add(name, files)
        backbone = mismatch.load_backbone(f"hf-clip:{name}")
        assert (backbone.commit, backbone.model_id) == (commit, name)
        embeddings.append(embedding(backbone))
    torch.testing.assert_close(embeddings[0], embeddings[1])
    torch.testing.assert_close(embeddings[0], embeddings[2])
    assert hub.asked("flax_model") == hub.asked("README") == []
    state = mismatch.load_backbone(f"hf-clip:{CLIP}")
    assert (state.image_spec.size, state.image_spec.mode) == (64, "shortest")
    assert state.text_spec.context_length == 77


def test_siglip_2_of_the_hub_has_its_own_tokenizer(hub: Hub, made: dict[str, Files]) -> None:
    hub.add(SIGLIP2, made[SIGLIP2])
    backbone: Any = mismatch.load_backbone(f"hf-clip:{SIGLIP2}")
    assert type(backbone.tokenizer).__name__ == "Siglip2Tokenizer"
    assert backbone.image_spec.mode == "squash"


@pytest.mark.parametrize("name", [CLIP, f"{CLIP}@main"])
def test_a_name_is_read_from_the_cache_offline(
    name: str, hub: Hub, made: dict[str, Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add(CLIP, made[CLIP])
    mismatch.load_backbone(f"hf-clip:{name}")
    offline(monkeypatch)
    hub.requests.clear()
    assert mismatch.load_backbone(f"hf-clip:{name}").commit == commit
    assert mismatch.load_backbone("hf-clip", f"{CLIP}@{commit}").commit == commit
    assert hub.requests == []


def test_a_pinned_name_loads_what_was_there(hub: Hub, made: dict[str, Files]) -> None:
    first = hub.add(CLIP, made[CLIP])
    hub.add(CLIP, {"config.json": b"{}"})
    assert mismatch.load_backbone("hf-clip", f"{CLIP}@{first}").commit == first
    with pytest.raises(BackboneError):
        mismatch.load_backbone("hf-clip", CLIP)


def test_a_folder_with_an_at_in_its_name_is_a_folder(
    hub: Hub, made: dict[str, Files], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "shop" / "clip@v1"
    folder.mkdir(parents=True)
    for name, content in made["safetensors"].items():
        (folder / name).write_bytes(content)
    backbone = mismatch.load_backbone("hf-clip:shop/clip@v1")
    assert (backbone.commit, hub.requests) == ("", [])


# --- openclip


@pytest.mark.usefixtures("small_vit")
@pytest.mark.parametrize("files", [LAION, "pickled"])
def test_a_tag_and_its_repository_are_one_model(
    files: str, hub: Hub, made: dict[str, Files]
) -> None:
    commit = hub.add(LAION, made[files])
    names = (VIT_B_32, f"{VIT_B_32}@{commit}", f"hf-hub:{LAION}", f"hf-hub:{LAION}@{commit}")
    embeddings = []
    for name in names:
        backbone = mismatch.load_backbone(f"openclip:{name}")
        assert (backbone.commit, backbone.model_id) == (commit, name)
        embeddings.append(embedding(backbone))
    assert all(torch.equal(embeddings[0], other) for other in embeddings[1:])
    assert hub.asked("/pytorch_model.bin") == []


@pytest.mark.usefixtures("small_vit")
def test_a_tag_is_read_from_the_cache_offline(
    hub: Hub, made: dict[str, Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add(LAION, made[LAION])
    mismatch.load_backbone("openclip")
    offline(monkeypatch)
    hub.requests.clear()
    assert mismatch.load_backbone("openclip").commit == commit
    assert mismatch.load_backbone(f"openclip:{VIT_B_32}@{commit}").commit == commit
    assert hub.requests == []
    with pytest.raises(BackboneError, match="HF_HUB_OFFLINE"):
        mismatch.load_backbone("openclip:ViT-B-32/openai")


@pytest.mark.usefixtures("small_vit")
def test_the_activation_is_the_tags(hub: Hub, made: dict[str, Files]) -> None:
    """ViT-B-32/openai was trained with QuickGELU; open_clip only warns that it computes GELU."""
    hub.add("timm/vit_base_patch32_clip_224.openai", made[LAION])
    backbone: Any = mismatch.load_backbone("openclip:ViT-B-32/openai")
    kinds = {type(module).__name__ for module in backbone.model.modules()}
    assert "QuickGELU" in kinds
    assert "GELU" not in kinds
    assert backbone.model_config["quick_gelu"] is True


@pytest.mark.usefixtures("small_vit")
def test_a_revision_of_what_is_on_no_hub_is_no_checkpoint() -> None:
    with pytest.raises(BackboneError, match="neither a tag"):
        mismatch.load_backbone("openclip:ViT-B-32/absent@v1")


def with_words(model: dict[str, Any], **text: Any) -> Files:
    """A repository of open_clip whose tokenizer is not CLIP's."""
    config = json.loads(json.dumps(model))
    config["custom_text"] = True
    config["text_cfg"] |= {"vocab_size": 46, "hf_tokenizer_name": TOKENIZER} | text
    from safetensors.torch import save

    parts = {key: value for key, value in config.items() if key != "custom_text"}
    state = dict(open_clip.CustomTextCLIP(**parts).state_dict())
    about = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    return {
        "open_clip_config.json": json.dumps(about).encode(),
        "open_clip_model.safetensors": save(state, {"format": "pt"}),
    }


@pytest.mark.parametrize("own", [True, False])
def test_a_tokenizer_lies_in_the_repository_or_in_the_one_it_names(
    own: bool, hub: Hub, made: dict[str, Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = with_words(SMALL_VIT_B_32)
    hub.add(TOKENIZER, made[TOKENIZER] | {"modeling.py": b""})
    hub.add("shop/words", files | (made[TOKENIZER] if own else {}))
    backbone: Any = mismatch.load_backbone("openclip:hf-hub:shop/words")
    assert backbone.upstream_tokenizer(["ab"])[0, :4].tolist() == [2, 5, 32, 3]
    assert bool(hub.asked(TOKENIZER)) is not own
    offline(monkeypatch)
    assert mismatch.load_backbone("openclip:hf-hub:shop/words").commit == backbone.commit


# --- what a stranger's repository may do


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.mark),)


Change = Callable[[Files, Path], Files]


def altered(files: Files, name: str, **values: Any) -> Files:
    return files | {name: json.dumps(json.loads(files[name]) | values).encode()}


def code_of_its_own(files: Files, mark: Path) -> Files:
    program = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n".encode()
    auto = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    return altered(files, "config.json", model_type="own", auto_map=auto) | {"own.py": program}


def tokenizer_of_its_own(files: Files, mark: Path) -> Files:
    program = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n".encode()
    auto = {"AutoTokenizer": ["own.Slow", "own.Fast"]}
    files = altered(files, "tokenizer_config.json", tokenizer_class="Fast", auto_map=auto)
    return altered(files, "config.json", model_type="siglip") | {"own.py": program}


def pickled_trap(files: Files, mark: Path) -> Files:
    return files | {"pytorch_model.bin": pickle.dumps(Trap(mark), protocol=2)}


def weights_elsewhere(files: Files, _mark: Path) -> Files:
    others = {name: content for name, content in files.items() if "pytorch_model" not in name}
    index = {"weight_map": {"w": "../../../blobs/other"}}
    return others | {"model.safetensors.index.json": json.dumps(index).encode()}


def tower_elsewhere(files: Files, _mark: Path) -> Files:
    tower = {"backbone": "hf-hub:nobody/tower"}
    return altered(files, "config.json", vision_config=tower)


@pytest.mark.parametrize(
    "change",
    [code_of_its_own, tokenizer_of_its_own, pickled_trap, weights_elsewhere, tower_elsewhere],
)
def test_a_strangers_repository_runs_and_reads_nothing_else(
    change: Change, hub: Hub, made: dict[str, Files], tmp_path: Path
) -> None:
    mark = tmp_path / "sprung"
    hub.add("evil/clip", change(made[CLIP], mark))
    with pytest.raises(BackboneError) as caught:
        mismatch.load_backbone("hf-clip:evil/clip")
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    assert hub.asked("own.py") == hub.asked("nobody") == []


@pytest.mark.parametrize(
    ("text", "vision", "reason"),
    [
        ({}, {"timm_model_name": "hf-hub:nobody/tower"}, "hf-hub:nobody/tower"),
        ({"hf_model_name": "../../etc", "hf_tokenizer_name": TOKENIZER}, {}, r"\.\./\.\./etc"),
        ({"hf_tokenizer_name": "/etc"}, {}, "/etc"),
        (
            {"hf_tokenizer_name": TOKENIZER, "tokenizer_kwargs": {"trust_remote_code": True}},
            {},
            "options",
        ),
    ],
)
def test_a_strangers_open_clip_names_nothing_elsewhere(
    text: dict[str, Any],
    vision: dict[str, Any],
    reason: str,
    hub: Hub,
    made: dict[str, Files],
) -> None:
    hub.add(TOKENIZER, made[TOKENIZER])
    config = json.loads(json.dumps(SMALL_VIT_B_32))
    config["text_cfg"] |= text
    config["vision_cfg"] |= vision
    about = json.dumps({"model_cfg": config}).encode()
    hub.add("evil/clip", {"open_clip_config.json": about, "open_clip_model.safetensors": b"w"})
    with pytest.raises(BackboneError, match=reason):
        mismatch.load_backbone("openclip:hf-hub:evil/clip")
    assert hub.asked("nobody") == []


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
def test_a_strangers_open_clip_is_not_unpickled(
    hub: Hub, made: dict[str, Files], tmp_path: Path
) -> None:
    mark = tmp_path / "sprung"
    trap = pickle.dumps(Trap(mark), protocol=2)
    hub.add("evil/clip", made["pickled"] | {"open_clip_pytorch_model.bin": trap})
    with pytest.raises(BackboneError, match="nothing of it was run"):
        mismatch.load_backbone("openclip:hf-hub:evil/clip")
    assert not mark.exists()


# --- the example plugin


def test_the_example_plugin_loads_a_timm_model_of_the_hub(
    hub: Hub, made: dict[str, Files], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm
    import transformers
    from timm.models import save_for_hf

    monkeypatch.syspath_prepend(str(ROOT / "examples" / "mismatch-lit"))
    import mismatch_lit

    image = tmp_path / "image"
    save_for_hf(timm.create_model("test_vit", num_classes=0), str(image), safe_serialization=True)
    hub.add("timm/test_vit.in1k", image)
    text = tmp_path / "text"
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=46, intermediate_size=64, **shape)
    transformers.BertModel(config).save_pretrained(text)
    files = {path.name: path.read_bytes() for path in text.iterdir()}
    hub.add("shop/words", files | made[TOKENIZER])
    name = "timm/test_vit.in1k+shop/words"
    before = mismatch_lit.load(name)
    offline(monkeypatch)
    hub.requests.clear()
    pixels = torch.full((1, 3, before.image_spec.size, before.image_spec.size), 0.5)
    with torch.no_grad():
        same = torch.equal(
            before.encode_image(pixels), mismatch_lit.load(name).encode_image(pixels)
        )
    assert same
    assert hub.requests == []


# --- both default models, in processes of their own

ONLINE = """
import json, sys
import open_clip
import mismatch
open_clip.add_model_config({architectures!r})
for family in ("hf-clip", "openclip"):
    mismatch.train(
        train_csv={rows!r}, image_base_path={images!r}, backbone=family, tune="head", epochs=1,
        output_dir=family, cache="cache", threads=1,
    )
"""
OFFLINE = """
import json, sys
import open_clip
import mismatch
open_clip.add_model_config({architectures!r})
scores = {{}}
for family in ("hf-clip", "openclip"):
    for model in (family, family + "/best_model"):
        scores[model] = mismatch.load(model).predict({image!r}, "red").similarity_score
print(json.dumps(scores))
"""


@pytest.fixture(scope="module")
def shop(module_folder: Path) -> Path:
    """Rows of two colours."""
    folder = module_folder / "shop"
    folder.mkdir()
    rows: list[tuple[Any, ...]] = [("image_path", "text", "label")]
    for i in range(12):
        colour = ("red", "blue")[i % 2]
        Image.new("RGB", (64, 64), colour).save(folder / f"{i}.png")
        rows += [(f"{i}.png", "red", 1 - i % 2), (f"{i}.png", "blue", i % 2)]
    write_rows(folder / "rows.csv", rows)
    return folder


def test_both_default_models_train_from_an_empty_cache_and_run_offline(
    made: dict[str, Files], shop: Path, tmp_path: Path
) -> None:
    values = {
        "architectures": str(small_architectures(tmp_path / "architectures")),
        "rows": str(shop / "rows.csv"),
        "images": str(shop),
        "image": str(shop / "0.png"),
    }
    with hub_server() as hub:
        names = {"hf-clip": CLIP, "openclip": LAION}
        commits = {family: hub.add(name, made[name]) for family, name in names.items()}
        environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "home"),
            "PYTHONWARNINGS": "default",
        }
        program = ONLINE.format(**values)
        first = finished([sys.executable, "-c", program], cwd=tmp_path, env=environment)
        assert first.returncode == 0, first.stderr
        for family, commit in commits.items():
            folder = tmp_path / family / "best_model"
            assert json.loads((folder / "mismatch.json").read_text())["backbone_commit"] == commit
            assert commit in (folder / "README.md").read_text()
        allowed = [*(f"/api/models/{name}" for name in names.values()), *names.values()]
        asked = [one.path for one in hub.requests if one.server == "hub"]
        assert [path for path in asked if not any(name in path for name in allowed)] == []
        hub.requests.clear()
        program = OFFLINE.format(**values)
        done = finished(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=environment | {"HF_HUB_OFFLINE": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert hub.requests == []
    scores = json.loads(done.stdout)
    assert len(scores) == 4
    assert all(isinstance(score, float) for score in scores.values())


@pytest.mark.parametrize(("pinned", "count"), [(False, 1), (True, 0)])
def test_a_run_says_which_name_would_pin_it(
    pinned: bool,
    count: int,
    hub: Hub,
    made: dict[str, Files],
    shop: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    commit = hub.add(CLIP, made[CLIP])
    name = f"{CLIP}@{commit}"
    with caplog.at_level(logging.WARNING, "mismatch.training"):
        mismatch.train(
            train_csv=shop / "rows.csv",
            image_base_path=shop,
            backbone="hf-clip",
            model_name=name if pinned else CLIP,
            tune="head",
            epochs=1,
            output_dir=tmp_path / "run",
            cache=tmp_path / "cache",
        )
    assert sum(f"model_name={name}" in record.getMessage() for record in caplog.records) == count
    hub.requests.clear()
    hub.failing = 500
    detector = mismatch.load(tmp_path / "run" / "best_model", "cpu")
    assert hub.requests == []
    assert f"{CLIP}" in str(detector.engine.describe()["backbone"])
    card = (tmp_path / "run" / "best_model" / "README.md").read_text()
    assert f"base_model: {CLIP}\n" in card
