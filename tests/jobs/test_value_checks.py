"""Numbers that a caller gives a job: what is none, or out of bounds, is an InputError that names it."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mismatch
from mismatch.errors import InputError
from mismatch.jobs.value_checks import (
    check_level,
    check_number,
    check_numbers,
    check_whole_number,
    checked,
)

INFINITE = float("inf")


@pytest.mark.parametrize("value", [0, 5, np.int64(3), 2**63 - 1])
def test_whole_numbers_pass(value: object) -> None:
    check_whole_number("seed", value, 0)


@pytest.mark.parametrize("value", [-1, 2**63, "3", 1.5, None, True, [1], float("nan"), np.ones(2)])
def test_what_is_no_whole_number_is_named(value: object) -> None:
    with pytest.raises(InputError, match=r"`seed` is .*; a whole number from 0 to ") as refusal:
        check_whole_number("seed", value, 0)
    assert refusal.value.option == "seed"


def test_numbers_lie_within_their_bounds() -> None:
    check_number("shrinkage", np.float32(2), 0, 9)
    check_numbers("thresholds", np.linspace(-1, 1, 3), -1, 1)
    for value in (-1, INFINITE, float("nan"), "2", None, True, 10, np.ones(2)):
        with pytest.raises(InputError, match=r"`shrinkage` is .*; a number from 0 to 9 is"):
            check_number("shrinkage", value, 0, 9)
    for values in ("0.5", 3, ["a"], [0.5, 2]):
        with pytest.raises(InputError, match="`thresholds` is "):
            check_numbers("thresholds", values, -1, 1)
    for level in (0, 0.4, 1, 2, "0.9"):
        with pytest.raises(InputError, match="`level` is "):
            check_level(level)


tune = partial(mismatch.tune_threshold, "m", "rows.csv")
calibrate = partial(mismatch.calibrate, "m", "rows.csv")
predict = partial(mismatch.predict_file, "m", "rows.csv", "out.csv")


@pytest.mark.parametrize(
    ("job", "options"),
    [
        (tune, {"slice_column": "lang", "shrinkage": INFINITE}),
        (tune, {"slice_column": "lang", "shrinkage": -29}),
        (tune, {"thresholds": ["a"]}),
        (tune, {"level": 2}),
        (tune, {"seed": "x"}),
        (tune, {"min_rows": None}),
        (calibrate, {"level": 0}),
        (calibrate, {"seed": -1}),
        (partial(mismatch.evaluate, "m", "rows.csv"), {"stress": True, "seed": -1}),
        (predict, {"top": 0}),
        (predict, {"top": "3"}),
        (predict, {"sort": "text"}),
    ],
)
def test_jobs_check_them_before_anything_is_read(
    job: Any, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the model nor the rows are there."""
    monkeypatch.chdir(tmp_path)
    name = list(options)[-1]
    with pytest.raises(InputError, match=rf"`{name}` is "):
        job(**options)


rows_of = partial(mismatch.explain_rows, "m", "rows.csv")
bench = partial(mismatch.benchmark, "m", "rows.csv")
split = partial(mismatch.split, "rows.csv")
negatives = partial(mismatch.make_negatives, "rows.csv")
audit = partial(mismatch.audit, "rows.csv")


@pytest.mark.parametrize(
    ("job", "options"),
    [
        (rows_of, {"worst": "3"}),
        (rows_of, {"worst": 0}),
        (rows_of, {"worst": True}),
        (rows_of, {"lexicon": 3}),
        (rows_of, {"lexicon": ["a"]}),
        (bench, {"batch_sizes": "x"}),
        (bench, {"batch_sizes": 3}),
        (bench, {"batch_sizes": [1, 2.5]}),
        (bench, {"batch_sizes": []}),
        (bench, {"max_rows": -1}),
        (bench, {"repeats": "5"}),
        (bench, {"models": 3}),
        (bench, {"models": ["a", None]}),
        (predict, {"shard": (1, 2)}),
        (predict, {"image_column": 5}),
        (predict, {"label_column": None}),
        (predict, {"image_base_path": ["a"]}),
        (predict, {"image_base_path": "a\0b"}),
        (predict, {"batch_size": 2**70}),
        (predict, {"output": 3}),
        (predict, {"allow_outside_images": "no"}),
        (predict, {"isolate_decoding": 1}),
        (split, {"overwrite": "no"}),
        (predict, {"rows": "a\0b"}),
        (split, {"seed": "x"}),
        (split, {"num_workers": -1}),
        (split, {"num_workers": "3"}),
        (split, {"num_workers": 10**6}),
        (split, {"group_columns": "shop"}),
        (split, {"stratify_columns": ["shop", 3]}),
        (split, {"output_dir": b"out"}),
        (negatives, {"output": 1.5}),
        (negatives, {"num_workers": 1.5}),
        (audit, {"report": 3}),
        (audit, {"report": ["a.html", 3]}),
        (audit, {"num_workers": -1}),
        (audit, {"fix": ("a", "b")}),
        (audit, {"fix": ""}),
        (negatives, {"output": ""}),
        (partial(mismatch.quickstart, "folder"), {"seed": "x"}),
        (partial(mismatch.export_onnx, "m"), {"output": 5}),
        (partial(mismatch.export_onnx, "m"), {"max_flips": "x"}),
        (partial(mismatch.audit_labels, "m", "rows.csv"), {"folds": "5"}),
        (mismatch.serve, {"host": 3}),
        (mismatch.serve, {"port": "x"}),
    ],
)
def test_values_of_another_kind_are_refused_in_one_line(
    job: Any, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("image_path,text,label\na.png,red,1\n")
    if job in (bench, predict):  # "models", "rows" and "output" come first there
        named = {"models": "m", "model": "m", "rows": "rows.csv", "output": "out.csv"}
        taken = set(inspect.signature(job.func).parameters)
        job = partial(job.func, **{k: v for k, v in named.items() if k in taken})
    [name] = options
    with pytest.raises(InputError, match=rf"`{name}` is |batch size is ") as refusal:
        job(**options)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 200


def test_kinds_are_those_of_annotations() -> None:
    def plain(
        model: str | Path, *, rows: Any = None, top: int | None = None, share: float = 0.5
    ) -> Any:
        """Do nothing."""
        return model, rows, top, share

    job: Any = checked(plain)
    assert job("a") == ("a", None, None, 0.5)
    assert job(Path("a"), rows=object, top=np.int64(3), share=1)[2] == 3
    assert (job.__name__, job.__doc__) == ("plain", "Do nothing.")
    assert list(inspect.signature(job).parameters) == ["model", "rows", "top", "share"]
    for wrong in ({"top": 1.5}, {"top": True}, {"share": "1"}, {"model": None}, {"model": "\0"}):
        with pytest.raises(InputError, match=f"`{next(iter(wrong))}` is "):
            job(**({"model": "a"} | wrong))
    with pytest.raises(TypeError, match="missing"):
        job()
    with pytest.raises(TypeError, match="other"):
        job("a", other=1)


def test_every_public_job_is_checked() -> None:
    for name in mismatch.__all__:
        function = getattr(mismatch, name)
        home = getattr(function, "__module__", "")
        if inspect.isfunction(function) and home.startswith("mismatch.jobs."):
            has_own = name in ("doctor", "explain", "train")  # `train` by TrainConfig
            assert has_own or hasattr(function, "__wrapped__"), name


def test_a_models_name_is_no_model_that_explains() -> None:
    name: Any = "bundle"
    with pytest.raises(InputError, match=r"a loaded model is needed, not a str"):
        mismatch.explain(name, "a.png", "red")
