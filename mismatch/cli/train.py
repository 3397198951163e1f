"""`mismatch train`: see `mismatch.train`; its options are the fields of TrainConfig."""

from __future__ import annotations

from dataclasses import Field, fields
from typing import Any

import click

from mismatch.cli.flags import with_flags
from mismatch.cli.logs import lines_on_stdout
from mismatch.cli.options import IMAGE_OPTIONS
from mismatch.cli.verb import option, verb
from mismatch.training.config import TrainConfig, default_text, help_text, kinds
from mismatch.training.option_groups import GROUPS, metavar
from mismatch.training.options import Kind
from mismatch.training.settings import read_settings

__all__ = ["command"]


def _option(field: Field[Any], kind: Kind) -> click.Option:
    """Return a field of TrainConfig as an option; a mode's own default stays None here."""
    shown = default_text(field.name)
    text = help_text(field.name) + (f"  [default: {shown}]" if shown else "")
    flag = "--" + field.name.replace("_", "-")
    if kind.type is bool:
        return click.Option([flag, field.name], is_flag=True, help=text)
    required = bool(field.metadata.get("required"))
    start: dict[str, Any] = {"required": True} if required else {"default": field.default}
    start["metavar"] = metavar(field.name, kind)
    return click.Option([flag, field.name], type=kind.type, help=text, **start)


def _read_config(ctx: click.Context, _param: click.Parameter, path: str | None) -> None:
    """Make what the file says this call's defaults, so that click lets the command line win."""
    if path is not None and not ctx.resilient_parsing:
        ctx.default_map = read_settings(path, kinds())


NAMES = [param.name for param in IMAGE_OPTIONS if param.name]


@verb(
    "Fine-tune a backbone on labelled rows.",
    option("--config", metavar="F", is_eager=True, expose_value=False, callback=_read_config),
    *(_option(field, kinds()[field.name]) for field in fields(TrainConfig)),
    *IMAGE_OPTIONS,
    sections={**GROUPS, "Machine": (*GROUPS["Machine"], *NAMES)},
)
def command(**options: Any) -> None:
    """Fine-tune a backbone on rows image_path,text,label (1 = the text describes the image).

    Writes best_model, final_model, checkpoint_epoch_N, training_stats.json, training_curves.png and
    run.yaml to the output folder.
    --model-name takes one of those checkpoints too, to go on from.

    Options:
    --config: YAML or TOML file with options under these names; options given here win over it.
        Relative paths in it are relative to the working directory. Every run writes its own as
        run.yaml.
    """
    from mismatch.jobs.train import train

    with lines_on_stdout("mismatch.training"):
        train(**options)


for _param in command.params:
    if isinstance(_param, click.Option) and _param.help:
        _param.help = with_flags(_param.help, command)
