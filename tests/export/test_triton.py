"""mismatch.export.triton: repositories that Triton's own rules accept, whose chained graphs score
as the bundle does.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import mismatch
from mismatch.errors import CheckpointError, ParityError
from mismatch.export import triton
from mismatch.export.pbtxt import Config
from mismatch.export.triton import check_target, write_repository
from mismatch.export.triton_check import check_repository
from mismatch.export.triton_head import with_score
from mismatch.export.triton_names import ENSEMBLE, HEAD, IMAGE, TEXT
from mismatch.runtime.bundle import read_bundle, write_manifest
from mismatch.runtime.scoring import scores_from_logits
from mismatch.specs import Calibration, ScoreSpec
from tests.support.commands import run
from tests.support.triton_configs import read_config

MODELS = (IMAGE, TEXT, HEAD)
TEXTS = [
    "red shirt",
    "a blue bag with a very long strap, and more words than that",
    "Größe 42 &amp; mehr 🎉",
]


@pytest.fixture(scope="module", params=["hf-clip", "openclip"])
def bundle(request: pytest.FixtureRequest, tiny_bundles: dict[str, Path]) -> Path:
    return tiny_bundles[request.param]


@pytest.fixture(scope="module")
def repository(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(bundle, tmp_path_factory.mktemp("triton") / "repository").folder


def config_of(folder: Path, name: str = "config.pbtxt") -> dict[str, Any]:
    return read_config(folder / name)


def configs_of(repository: Path) -> dict[str, dict[str, Config]]:
    return {
        name: {
            path.relative_to(repository / name).as_posix(): Config(read_config(path), [])
            for path in (repository / name).rglob("*.pbtxt")
        }
        for name in (*MODELS, ENSEMBLE)
    }


def run_ensemble(repository: Path, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """What the ensemble's map says, step by step, in onnxruntime."""
    known = dict(tensors)
    config = config_of(repository / ENSEMBLE)
    options = ort.SessionOptions()
    # int8's kernels that don't overflow, as the engine chooses them on older CPUs
    options.add_session_config_entry("session.x64quantprecision", "1")
    for step in config["ensemble_scheduling"]["step"]:
        session = ort.InferenceSession(
            repository / step["model_name"] / "1" / "model.onnx",
            options,
            providers=["CPUExecutionProvider"],
        )
        outputs = {one["key"]: one["value"] for one in step["output_map"]}
        values = session.run(
            list(outputs), {one["key"]: known[one["value"]] for one in step["input_map"]}
        )
        known |= dict(zip(outputs.values(), values, strict=True))
    return {one["name"]: known[one["name"]] for one in config["output"]}


def changed_score(bundle: Path, folder: Path, score: ScoreSpec) -> Path:
    """The bundle with another way from logits to scores."""
    target = Path(shutil.copytree(bundle, folder))
    write_manifest(target, replace(read_bundle(target), score=score))
    return target


def test_the_layout_is_a_model_repository(repository: Path, bundle: Path) -> None:
    files = {
        path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file()
    }
    graphs = {f"{name}/1/model.onnx" for name in MODELS} | {
        f"{name}/config.pbtxt" for name in (*MODELS, ENSEMBLE)
    }
    assert files == graphs | {f"{name}/configs/gpu.pbtxt" for name in (IMAGE, TEXT)} | {
        "mismatch/1/manifest.json",
        "mismatch/1/tokenizer.json",
    }
    assert (repository / TEXT / "1" / "model.onnx").read_bytes() == (
        bundle / "text_encoder.onnx"
    ).read_bytes()
    assert (repository / ENSEMBLE / "1" / "manifest.json").read_bytes() == (
        bundle / "manifest.json"
    ).read_bytes()
    check_repository(repository, configs_of(repository))


def test_the_configs_say_what_the_graphs_take(repository: Path, bundle: Path) -> None:
    manifest = read_bundle(bundle)
    size = manifest.image_spec.size
    image, text, head = (config_of(repository / name) for name in MODELS)
    assert image["input"] == [
        {"name": "pixel_values", "data_type": "TYPE_FP32", "dims": [3, size, size]}
    ]
    assert [(one["name"], one["data_type"], one["dims"]) for one in text["input"]] == [
        ("input_ids", "TYPE_INT64", [-1]),
        ("attention_mask", "TYPE_INT64", [-1]),
    ]
    assert [(one["name"], one["dims"]) for one in head["output"]] == [
        ("logit", [1]),
        ("similarity_score", [1]),
    ]
    assert {config["max_batch_size"] for config in (image, text, head)} == {64}
    assert image["dynamic_batching"]["max_queue_delay_microseconds"] == 2000
    assert image["instance_group"] == [{"kind": "KIND_CPU", "count": 1}]
    gpu = config_of(repository / IMAGE, "configs/gpu.pbtxt")
    assert gpu["instance_group"][0]["kind"] == "KIND_GPU"
    assert (gpu["input"], gpu["output"]) == (image["input"], image["output"])
    facts = {
        one["key"]: one["value"]["string_value"]
        for one in config_of(repository / ENSEMBLE)["parameters"]
    }
    assert float(facts["threshold"]) == manifest.score.threshold_in_use


def compare_with_predictor(repository: Path, bundle: Path, colour_images: Path) -> None:
    """The chained graphs on real pixels and ids against the bundle's Predictor."""
    predictor = mismatch.load(bundle, "cpu", threads=1)
    images = [colour_images / f"{name}.png" for name in ("red", "green", "blue")]
    tokens = predictor.pipeline.tokenizer(TEXTS)
    pixels = np.stack([predictor.pipeline.preprocess(path) for path in images])
    found = run_ensemble(
        repository,
        {
            "pixel_values": pixels,
            "input_ids": tokens.input_ids,
            "attention_mask": tokens.attention_mask,
        },
    )
    expected = [predictor.predict(image, text) for image, text in zip(images, TEXTS, strict=True)]
    assert found["similarity_score"].shape == found["logit"].shape == (3, 1)
    logits: list[Any] = [one.logit for one in expected]
    scores: list[Any] = [one.similarity_score for one in expected]
    np.testing.assert_allclose(found["logit"][:, 0], logits, atol=1e-5)
    np.testing.assert_allclose(found["similarity_score"][:, 0], scores, atol=1e-6)
    np.testing.assert_allclose(
        found["similarity_score"], scores_from_logits(found["logit"], predictor.score), atol=1e-6
    )


def test_the_ensemble_scores_as_the_predictor_does(
    repository: Path, bundle: Path, colour_images: Path
) -> None:
    compare_with_predictor(repository, bundle, colour_images)


def test_tritons_own_schema_reads_every_config(repository: Path) -> None:
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", exc_type=ImportError)
    text_format = importlib.import_module("google.protobuf.text_format")
    paths = [*repository.rglob("*.pbtxt")]
    assert len(paths) == 6
    for path in paths:
        config = text_format.Parse(path.read_text(encoding="utf-8"), schema.ModelConfig())
        assert config.name == path.relative_to(repository).parts[0]
        assert [one.name for one in config.input] == [
            one["name"] for one in read_config(path)["input"]
        ]


PIECEWISE = Calibration(1.3, -0.4, 200, "piecewise", (-3.0, -1.0, 0.5, 4.0), (-2.0, -1.5, 1.0, 2.5))
SCORES = {
    "none": ScoreSpec("probability", 0.5),
    "temperature": ScoreSpec("probability", 0.5, Calibration(0.31, 0.0, 50, "temperature")),
    "platt": ScoreSpec("probability", 0.5, Calibration(2.7, -13.1, 50)),
    "piecewise": ScoreSpec("probability", 0.5, PIECEWISE),
    "one line": ScoreSpec(
        "probability", 0.5, Calibration(1.0, 0.0, 50, "piecewise", (-1.0, 1.0), (-3.0, 0.5))
    ),
    "zero-shot": ScoreSpec("cosine", 0.25),
}


@pytest.mark.parametrize("name", SCORES)
def test_a_baked_calibration_is_the_one_function(name: str) -> None:
    """On a grid of logits, the knots themselves among them, as far as a sigmoid is flat."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch"])
    logit = helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["batch"])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["logit"])], "head", [value], [logit]
    )
    plain = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(
        with_score(plain, SCORES[name]).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    knots = (np.array(PIECEWISE.knots) - PIECEWISE.intercept) / PIECEWISE.slope
    grid = np.concatenate([np.linspace(-200, 200, 4001), np.linspace(-8, 8, 4001), knots]).astype(
        np.float32
    )
    logits, scores = session.run(["logit", "similarity_score"], {"x": grid})
    assert (logits[:, 0] == grid).all()
    np.testing.assert_allclose(
        scores[:, 0], scores_from_logits(grid, SCORES[name]), atol=1e-6, rtol=0
    )
    assert plain.graph.output[0].name == "logit"  # what was given is as it was
    assert len(plain.graph.node) == 1


@pytest.mark.parametrize("name", ["piecewise", "zero-shot"])
def test_a_bundle_with_another_score_is_written_with_that(
    tiny_bundles: dict[str, Path], tmp_path: Path, name: str
) -> None:
    bundle = changed_score(tiny_bundles["openclip"], tmp_path / "bundle", SCORES[name])
    written = write_repository(bundle, tmp_path / "repository")
    assert 0 <= written.difference < 1e-6
    facts = {
        one["key"]: one["value"]["string_value"]
        for one in config_of(written.folder / ENSEMBLE)["parameters"]
    }
    assert (facts["score"], facts["threshold"]) == (
        SCORES[name].kind,
        repr(SCORES[name].threshold_in_use),
    )


@pytest.mark.filterwarnings("ignore:this bundle is fp16")
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_lower_precisions(
    tiny_checkpoints: dict[str, Path],
    colour_images: Path,
    write_rows: Any,
    tmp_path: Path,
    precision: str,
) -> None:
    """int8's operators are the CPU's, so its towers have no config for GPUs; from a checkpoint both
    are written at once.
    """
    rows = write_rows(
        tmp_path / "rows.csv",
        [("image_path", "text"), ("red.png", "red shirt"), ("blue.png", "a blue bag")],
    )
    args = [
        "--model",
        tiny_checkpoints["openclip"],
        "--output",
        tmp_path / "bundle",
        "--precision",
        precision,
        "--verify-csv",
        rows,
    ]
    args += [
        "--image-base-path",
        colour_images,
        "--max-flips",
        "1",
        "--max-auroc-loss",
        "1",
        "--triton",
        tmp_path / "repository",
    ]
    result = run("export-onnx", *args)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "repository" / IMAGE / "configs").exists() == (precision == "fp16")
    assert ("exact on CPUs with 8-bit dot products only" in result.stderr) == (precision == "int8")
    compare_with_predictor(tmp_path / "repository", tmp_path / "bundle", colour_images)


@pytest.mark.parametrize("name", ["text_encoder", "head"])
def test_weights_in_another_file_are_not_followed(
    tiny_bundles: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """Its place is the graph's to say, and it could be any file of this machine or, later, of
    Triton's.
    """
    bundle = Path(shutil.copytree(tiny_bundles["openclip"], tmp_path / "bundle"))
    manifest, model = read_bundle(bundle), onnx.load(bundle / f"{name}.onnx")
    onnx.save_model(
        model,
        bundle / f"{name}.onnx",
        save_as_external_data=True,
        location=f"{name}.weights",
        size_threshold=1024,
    )
    write_manifest(bundle, manifest)
    with pytest.raises(CheckpointError, match="its weights lie in another file"):
        write_repository(bundle, tmp_path / "repository")
    assert {path.name for path in tmp_path.iterdir()} == {"bundle"}


def test_an_older_repository_is_replaced_and_nothing_else(
    tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    bundle, target = tiny_bundles["openclip"], tmp_path / "repository"
    write_repository(bundle, target)
    (target / "mismatch_head" / "2").mkdir()
    write_repository(bundle, target)
    assert not (target / "mismatch_head" / "2").exists()
    (target / "resnet").mkdir()
    with pytest.raises(CheckpointError, match=r"holds other models too \(resnet\)"):
        write_repository(bundle, target)
    (tmp_path / "photos" / "mine").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="is not a repository that mismatch wrote"):
        write_repository(bundle, tmp_path / "photos")
    with pytest.raises(CheckpointError, match="lies in the bundle"):
        check_target(bundle / "triton", bundle)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="is a file"):
        check_target(tmp_path / "file")
    assert {path.name for path in tmp_path.iterdir()} == {"repository", "photos", "file"}


@pytest.mark.parametrize("name", ["mismatch_head/config.pbtxt", "mismatch/config.pbtxt"])
def test_a_config_that_somebody_has_tuned_is_kept(
    name: str, tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    bundle, target = tiny_bundles["openclip"], tmp_path / "repository"
    write_repository(bundle, target)
    tuned = (target / name).read_text() + "# 8 instances here\n"
    (target / name).write_text(tuned)
    with pytest.raises(CheckpointError, match=rf"{name} is not as an export wrote it"):
        write_repository(bundle, target)
    assert (target / name).read_text() == tuned


def test_scores_that_differ_leave_nothing_behind(
    tiny_bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton, "TOLERANCE", -1.0)
    with pytest.raises(ParityError, match="nothing was written"):
        write_repository(tiny_bundles["openclip"], tmp_path / "repository")
    assert list(tmp_path.iterdir()) == []


def _rename_output(config: dict[str, Any]) -> None:
    config["ensemble_scheduling"]["step"][0]["output_map"][0]["key"] = "nothing"


def _drop_step(config: dict[str, Any]) -> None:
    del config["ensemble_scheduling"]["step"][1]


def _unmapped(config: dict[str, Any]) -> None:
    config["ensemble_scheduling"]["step"][1]["input_map"].pop()


WRONG = [
    (ENSEMBLE, lambda config: config.update(max_batch_size=65), "allows larger batches"),
    (ENSEMBLE, _rename_output, "maps the output nothing"),
    (ENSEMBLE, _drop_step, "no step of mismatch makes text_"),
    (ENSEMBLE, _unmapped, "to the inputs"),
    (
        ENSEMBLE,
        lambda config: config["input"][0].update(dims=[3, 1, 1]),
        "one type or shape where it is made",
    ),
    (
        ENSEMBLE,
        lambda config: config["input"].append(
            {"name": "more", "data_type": "TYPE_FP32", "dims": [1]}
        ),
        "takes .'more'.",
    ),
    (
        IMAGE,
        lambda config: config["input"][0].update(dims=[3, -1, -1]),
        "the inputs of mismatch_image_encoder/config.pbtxt are not those of its graph",
    ),
    (TEXT, lambda config: config.pop("backend"), "has no backend"),
    (
        TEXT,
        lambda config: config["dynamic_batching"].update(preferred_batch_size=[128]),
        "prefers batches of",
    ),
    (HEAD, lambda config: config.update(name="head"), "is called 'head'"),
]


@pytest.mark.parametrize(("model", "change", "words"), WRONG, ids=[words for _, _, words in WRONG])
def test_the_check_notices_what_triton_would_refuse(
    repository: Path, model: str, change: Any, words: str
) -> None:
    configs = configs_of(repository)
    change(configs[model]["config.pbtxt"].message)
    with pytest.raises(CheckpointError, match=words):
        check_repository(repository, configs)


def test_a_version_that_is_missing_is_noticed(repository: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(repository, tmp_path / "copy"))
    shutil.rmtree(copy / ENSEMBLE / "1")
    with pytest.raises(CheckpointError, match="mismatch has no folder of a version"):
        check_repository(copy, configs_of(repository))


def test_a_file_of_somebody_elses_in_an_older_repository_stays(
    tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    bundle, target = tiny_bundles["openclip"], tmp_path / "repository"
    write_repository(bundle, target)
    (target / "mismatch_head" / "2").mkdir()
    (target / "mismatch_head" / "2" / "model.onnx").write_text("mine")
    with pytest.raises(
        CheckpointError, match=r"holds other files too \(mismatch_head/2/model.onnx\)"
    ):
        write_repository(bundle, target)
    assert (target / "mismatch_head" / "2" / "model.onnx").read_text() == "mine"
