"""mismatch.serving.setting_rules: what settings may be. test_configuration.py has each setting."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields
from typing import Any

import pytest

from mismatch.errors import InputError
from mismatch.serving.configuration import Settings

WRONG: list[Any] = [object(), b"x", [], {1: 2}, float("nan"), float("-inf"), -1, "\udcff", [[]]]


@pytest.mark.parametrize("name", [item.name for item in fields(Settings)])
def test_every_setting_takes_its_default_and_refuses_other_types_in_words(name: str) -> None:
    messages = []
    for value in WRONG:
        options: dict[str, Any] = {"model": "m"} | {name: value}
        with suppress(InputError):
            Settings(**options)
            continue
        with pytest.raises(InputError, match=f"the service's {name}") as error:
            Settings(**options)
        messages.append(str(error.value))
    assert len(messages) >= len(WRONG) - 2, "an empty list, and a string that is one"


def test_a_long_value_is_not_repeated_whole() -> None:
    with pytest.raises(InputError) as error:
        Settings("m", batch="x" * 10_000)  # type: ignore[arg-type]
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("value", "is_taken"), [(0, False), (0.1, True), (86_400, True), (86_400.1, False)]
)
def test_bounds_of_a_number(value: float, is_taken: bool) -> None:
    if is_taken:
        assert Settings("m", deadline=value).deadline == value
        return
    with pytest.raises(InputError, match="a number of seconds, more than 0, 86,400 at most is"):
        Settings("m", deadline=value)
