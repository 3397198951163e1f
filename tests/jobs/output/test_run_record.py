"""mismatch.jobs.output.run_record: a run goes on with its own output only."""

from __future__ import annotations

import pytest

from mismatch.errors import InputError
from mismatch.jobs.output.run_record import BEGIN_AGAIN, check_same_run, option_key


def test_the_same_run_goes_on_and_another_one_is_named() -> None:
    before = {"the model": ["ab"], option_key("long_text"): "chunk", "the format": "csv"}
    check_same_run("out.csv.part", before, dict(before))
    with pytest.raises(InputError) as caught:
        check_same_run("out.csv.part", before, before | {"the model": [], "--long-text": "mean"})
    assert str(caught.value) == (
        "out.csv.part is of another run, which differs in the model, `long_text` (chunk before,"
        f" mean now); repeat that run with `resume=True`, or {BEGIN_AGAIN}"
    )


def test_keys_are_those_that_earlier_versions_wrote() -> None:
    assert option_key("keep_columns") == "--keep-columns"
