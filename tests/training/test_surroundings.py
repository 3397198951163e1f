"""Warning filters and environment variables are afterwards as they were."""

from __future__ import annotations

import os
import warnings

import pytest

from mismatch.training.surroundings import VARIABLES, left_as_found


def test_what_libraries_set_is_put_back_after_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    filters = list(warnings.filters)
    environment = dict(os.environ)

    @left_as_found()
    def change() -> None:
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = "/tmp/somewhere"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        change()
    assert list(warnings.filters) == filters
    assert dict(os.environ) == environment
