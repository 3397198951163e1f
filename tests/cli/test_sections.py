"""Help in sections: each option of train in one of them, those that matter first on top."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import click

from mismatch import cli
from mismatch.cli.sections import SectionedCommand, write_sections
from mismatch.training.config import TrainConfig
from mismatch.training.option_groups import GROUPS


def sections_of(text: str) -> dict[str, list[str]]:
    """Return the first word of each entry under each title."""
    titles: dict[str, list[str]] = {}
    for block in text.split("\n\n"):
        title, *lines = block.splitlines()
        if title.endswith(":"):
            starts = [line for line in lines if line.startswith("  ") and line[2] != " "]
            titles[title.removesuffix(":")] = [line.split()[0].rstrip(",") for line in starts]
    return titles


def test_every_option_of_training_is_in_one_group() -> None:
    counts = Counter(name for names in GROUPS.values() for name in names)
    assert dict(counts) == {field.name: 1 for field in fields(TrainConfig)}
    assert len(next(iter(GROUPS.values()))) == 10


def test_the_help_of_train_has_them_all_and_the_ten_that_matter_first() -> None:
    shown = sections_of(cli.help_text("train"))
    assert list(shown) == [*GROUPS, "Others"]
    assert shown["Main options"] == [
        "--" + name.replace("_", "-") for name in GROUPS["Main options"]
    ]
    assert shown["Others"][:-1] == ["--config", "--debug"]
    assert shown["Others"][-1] in ("-h", "--help")  # as click's version puts them
    command = cli.main.get_command(click.Context(cli.main), "train")
    assert command is not None
    entries = [entry for entries in shown.values() for entry in entries]
    assert len(entries) == len(command.params) + 1  # and --help


def test_sections_share_their_columns_and_a_long_name_has_its_own_line() -> None:
    formatter = click.HelpFormatter(width=60)
    rows = {"a": ("-a", "one"), "b": ("--beta", "two"), "c": ("--" + "c" * 40, "three")}
    write_sections(formatter, {"First": ["a"], "Second": ["b", "c"]}, rows)
    lines = formatter.getvalue().splitlines()
    assert lines[:4] == ["First:", f"  {'-a':<30}  one", "", "Second:"]
    assert lines[4:] == [f"  {'--beta':<30}  two", f"  --{'c' * 40}", " " * 34 + "three"]


def test_a_command_without_sections_lists_its_options_as_click_does() -> None:
    command = SectionedCommand("one", params=[click.Option(["--a"], help="A.")])
    text = command.get_help(click.Context(command))
    assert list(sections_of(text)) == ["Options"]
