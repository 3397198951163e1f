"""Options in messages of the library become flags of the command that runs."""

from __future__ import annotations

import click
import pytest

from mismatch.cli.flags import with_flags

COMMAND = click.Command(
    "one",
    params=[
        click.Option(["--csv", "rows"]),
        click.Option(["--image-base-path"]),
        click.Option(["--resume"], is_flag=True),
        click.Option(["--slice", "slices"]),
        click.Option(["--provider", "--device", "provider"]),
    ],
)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("`image_base_path` x is a file", "--image-base-path x is a file"),
        ("pass `resume=True`", "pass --resume"),
        ("pass `slices='brand'`", "pass --slice brand"),
        ("pass `slices='the brand'`", 'pass --slice "the brand"'),
        ("pass `slice=brand`", "pass --slice brand"),
        ("`rows` and `csv`", "--csv and --csv"),
        ("`provider` cuda", "--provider cuda"),
        ("`other` of a text `like this` stays", "`other` of a text `like this` stays"),
    ],
)
def test_a_name_in_backquotes_is_a_flag(message: str, line: str) -> None:
    assert with_flags(message, COMMAND) == line
    assert with_flags(message, None) == message
