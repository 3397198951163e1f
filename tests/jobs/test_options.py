"""The options that predict and evaluate share."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, get_type_hints

import click
import pytest
from click.testing import CliRunner

from mismatch.cli.options import (
    FETCHING_ROW_OPTIONS,
    LOCATION,
    LONG_TEXT,
    MODEL,
    MODEL_ENV,
    MODEL_OPTIONS,
    ROW_OPTIONS,
    fitting_options,
)
from mismatch.data.columns import Columns
from mismatch.errors import InputError
from mismatch.io.remote import Remote
from mismatch.jobs.options import (
    ModelOptions,
    ModelRowOptions,
    ModelRowSettings,
    ModelSettings,
    RowOptions,
    RowSettings,
    model_name,
    open_predictor,
    open_rows,
)
from mismatch.runtime import preprocess
from mismatch.runtime.decoding import DecodingPool
from mismatch.specs import ReviewBand


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command that shows what it was given."""
    show = click.Command(
        "show",
        params=list(MODEL_OPTIONS),
        callback=lambda **options: click.echo(sorted(options.items())),
    )
    monkeypatch.delenv(MODEL_ENV, raising=False)
    return lambda *args: CliRunner().invoke(show, args)


def test_their_defaults(run: Any) -> None:
    assert run("--model", "m").output.strip() == str(
        [
            ("batch_size", 16),
            ("model", "m"),
            ("num_workers", None),
            ("provider", "auto"),
            ("threads", None),
        ]
    )


@pytest.mark.parametrize("name", ["--provider", "--device"])
def test_device_is_another_name_of_provider(run: Any, name: str) -> None:
    assert "('provider', 'cuda')" in run("--model", "m", name, "cuda").output


@pytest.mark.parametrize(
    "args",
    [
        ["--threads", "0"],
        ["--batch-size", "0"],
        ["--num-workers", "-1"],
        ["--provider", "tpu"],
        ["--batch-size", "many"],
    ],
)
def test_what_makes_no_sense_is_refused(run: Any, args: list[str]) -> None:
    result = run("--model", "m", *args)
    assert result.exit_code == 2
    assert args[0] in result.output


def test_the_environment_names_the_model_and_the_option_wins(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run().exit_code == 2
    monkeypatch.setenv("CLIP_FINE_TUNED_MODEL_PATH", "from-the-environment")
    assert "('model', 'from-the-environment')" in run().output
    assert "('model', 'm')" in run("--model", "m").output


def test_the_model_alone() -> None:
    command = click.Command("a", params=[MODEL], callback=lambda model: print(f"model {model}"))
    assert CliRunner().invoke(command, ["--model", "m"]).output == "model m\n"


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        ([], "None"),
        (["--long-text", "chunk"], "chunk"),
        (["--long-text", "chunk-mean"], "chunk-mean"),
    ],
)
def test_what_becomes_of_long_texts(args: list[str], shown: str) -> None:
    command = click.Command(
        "a", params=[LONG_TEXT], callback=lambda long_text: click.echo(str(long_text))
    )
    assert CliRunner().invoke(command, args).output == f"{shown}\n"
    assert (
        "'split' is not one of 'truncate', 'chunk', 'chunk-mean'"
        in CliRunner().invoke(command, ["--long-text", "split"]).output
    )


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ({}, Columns()),
        ({"image_base_path": "d"}, Columns(inside="d", base="d")),
        ({"image_base_path": "d", "allow_outside_images": True}, Columns(base="d")),
        (
            {"image_column": "a", "text_column": "b", "label_column": "c"},
            Columns("a", "b", "c"),
        ),
        (
            {"label_map": "yes/no", "multi_image": "all"},
            Columns(label_map="yes/no", multi_image="all"),
        ),
    ],
)
def test_how_rows_are_read(options: dict[str, Any], columns: Columns) -> None:
    with open_rows("rows.csv", RowSettings.of(options)) as source:
        assert (source.base, source.columns) == (options.get("image_base_path", ""), columns)


def test_options_about_rows_that_make_no_sense_are_refused() -> None:
    for options, problem in (
        ({"label_map": "yes"}, "'yes' is not understood"),
        ({"image_column": "text"}, "three different names are needed"),
    ):
        with (
            pytest.raises(InputError, match=problem),
            open_rows("rows.csv", RowSettings.of(options)),
        ):
            pass
    command = click.Command("a", params=list(ROW_OPTIONS), callback=lambda **options: None)
    assert (
        "'any' is not one of 'best', 'all'"
        in CliRunner().invoke(command, ["--multi-image", "any"]).output
    )


def test_options_of_rows_are_those_of_a_job() -> None:
    chosen: dict[str, Any] = {}
    command = click.Command(
        "a",
        context_settings={"token_normalize_func": lambda name: name.replace("_", "-")},
        params=list(ROW_OPTIONS),
        callback=lambda **options: chosen.update(options),
    )
    assert CliRunner().invoke(command, []).exit_code == 0
    assert chosen == asdict(RowSettings())
    assert CliRunner().invoke(command, ["--text_column", "b"]).exit_code == 0
    assert chosen == asdict(RowSettings(text_column="b"))


def test_decoding_elsewhere_is_over_with_the_job() -> None:
    decoders = []
    for wanted in (False, True, False):
        with open_rows("rows.csv", RowSettings(isolate_decoding=wanted)):
            decoders.append(preprocess._decoder)
    assert [type(one) for one in decoders] == [type(None), DecodingPool, type(None)]
    assert preprocess._decoder is None


def test_a_url_as_base_is_for_verbs_that_fetch(run: Any) -> None:
    other = click.Command("other", params=list(ROW_OPTIONS))
    fetching = click.Command(
        "fetching",
        params=list(FETCHING_ROW_OPTIONS),
        callback=lambda **options: click.echo(options["image_base_path"]),
    )

    said = CliRunner().invoke(other, ["--image-base-path", "s3://shop/images"]).output
    assert "it is a URL, which `mismatch predict` alone takes" in " ".join(said.split())
    assert (
        CliRunner().invoke(fetching, ["--image-base-path", "s3a://shop/images/"]).output
        == "s3://shop/images\n"
    )
    assert CliRunner().invoke(fetching, ["--image-base-path", "data/"]).output == "data/\n"


def test_what_fits_and_stores_has_its_own_number_of_rows() -> None:
    chosen: dict[str, Any] = {}
    params = list(fitting_options(4, "Of folds."))
    command = click.Command("a", params=params, callback=lambda **options: chosen.update(options))
    assert "--min-rows" in CliRunner().invoke(command, ["--min-rows", "3"]).output
    assert CliRunner().invoke(command, ["--min-rows", "4", "--dry-run"]).exit_code == 0
    assert chosen == {"min_rows": 4, "level": 0.95, "seed": 0, "dry_run": True, "as_json": False}
    assert [param.help for param in params if param.name == "seed"] == ["Of folds."]


def test_a_location_is_a_path_or_what_a_url_names() -> None:
    assert LOCATION("a.csv") == Path("a.csv")
    assert LOCATION("s3://shop/a.csv") == Remote("s3://shop", "a.csv")


def test_a_job_reads_rows_as_its_options_say(tmp_path: Path, write_rows: Any) -> None:
    path = write_rows(tmp_path / "a.csv", [("picture", "text"), ("a.png", "red")])
    with open_rows(path, RowSettings(image_column="picture", image_base_path=tmp_path)) as source:
        assert (source.name, source.path, source.base) == (str(path), path, str(tmp_path))
        assert (source.columns.image, source.columns.inside) == ("picture", str(tmp_path))
    with open_rows(
        path, RowSettings(image_base_path=tmp_path, allow_outside_images=True)
    ) as source:
        assert source.columns.inside == ""
    with pytest.raises(InputError, match="no option 'thread'; did you mean 'threads'"):
        ModelRowSettings.of({"thread": 1})
    with pytest.raises(InputError, match="no option 'threads'"):
        RowSettings.of({"threads": 1})


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (RowOptions, RowSettings),
        (ModelOptions, ModelSettings),
        (ModelRowOptions, ModelRowSettings),
    ],
)
def test_settings_are_the_options_of_a_job(options: type, settings: type) -> None:
    assert get_type_hints(settings) == get_type_hints(options)


def test_a_job_takes_a_model_by_name_or_one_that_is_loaded(tiny_bundles: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"`review_band` from 0\.1 to 0\.3 does not") as refusal:
        open_predictor(
            tiny_bundles["openclip"],
            ModelSettings(),
            threshold=0.5,
            review_band=ReviewBand(0.1, 0.3),
        )
    assert refusal.value.option == "review_band"
    banded = open_predictor(
        tiny_bundles["openclip"], ModelSettings(), review_band=ReviewBand(-0.1, 1.1)
    )
    assert banded.review == ReviewBand(-0.1, 1.1)
    predictor = open_predictor(tiny_bundles["openclip"], ModelSettings(threads=1), threshold=0.25)
    assert predictor.threshold == 0.25
    assert open_predictor(predictor, ModelSettings()) is predictor
    assert open_predictor(predictor, ModelSettings(provider="auto")) is predictor
    with pytest.raises(InputError, match="`threads` goes with a model's folder"):
        open_predictor(predictor, ModelSettings(threads=1))
    with pytest.raises(InputError, match="`threshold` goes with a model's folder"):
        open_predictor(predictor, ModelSettings(), threshold=0.5)
    assert model_name("openclip:tiny") == "openclip:tiny"


def test_errors_name_rows_in_memory_as_the_user_knows_them() -> None:
    rows = [{"image_path": "a.png", "text": "red"}]
    with (
        pytest.raises(InputError, match=r"^list:row 2: no; list was read$"),
        open_rows(rows, RowSettings()) as source,
    ):
        raise InputError(f"{source.path}:2: no; {source.path} was read")
