"""`mismatch backbones`: which families are installed, and what became of each plugin."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from mismatch.backbones import registry
from mismatch.cli.options import PATH
from mismatch.cli.verb import echo_json, flag, option, verb
from mismatch.reports.backbone_lines import (
    check_lines,
    count_line,
    family_lines,
    family_table,
    next_line,
)

__all__ = ["command"]


@verb("", flag("--json as_json"))
def list_families(as_json: bool) -> None:
    """List the installed families and their models; torch is not loaded.

    Options:
    --json: Print JSON, with the plugins that are broken or lost a name.
    """
    families = list(registry.families().values())
    if as_json:
        problems = [asdict(problem) for problem in registry.problems()]
        echo_json({"families": [item.to_dict() for item in families], "problems": problems})
    elif families:
        click.echo("\n".join(family_table(families)))
    else:
        click.echo("No backbone family is installed.")


@verb("", click.Argument(["name"]), flag("--json as_json"))
def show_family(name: str, as_json: bool) -> None:
    """Show one family, or why the plugin NAME is left out; --debug adds the plugin's traceback.

    Options:
    --json: Print JSON.
    """
    problems = registry.problems_of(name)
    family = registry.family_of(name)
    if family is None and not problems:
        registry.family(name)  # raises, with the nearest name
    facts = {"name": name} | problems[0].origin() if family is None else family.to_dict()
    if as_json:
        echo_json(facts | {"problems": [asdict(problem) for problem in problems]})
    else:
        click.echo("\n".join(family_lines(facts, problems, with_trace=_shows_traces())))
    if family is None:
        raise click.exceptions.Exit(1)


@verb(
    "Run the contract against one backbone.",
    click.Argument(["name"]),
    option("--model-name", metavar="M"),
    option("--only", multiple=True, metavar="CHECK"),
    flag("--json as_json"),
)
def check_family(name: str, model_name: str | None, only: tuple[str, ...], as_json: bool) -> None:
    """Run the contract against the backbone NAME (FAMILY or FAMILY:MODEL): what its author has to
    keep, check by check.

    Exit code 1 where a check fails; each failure says what to change.

    Options:
    --model-name: MODEL of the family, or a local directory.  [default: the family's own]
    --only: One check by its name, as in "onnx export"; may be repeated.  [default: all]
    --json: Print JSON.
    """
    from mismatch.testing.backbone_check import check_backbone

    checks = []
    for check in check_backbone(name, model_name, only=only):
        checks.append(asdict(check) | {"seconds": round(check.seconds, 3)})
        if not as_json:
            click.echo("\n".join(check_lines(check, with_trace=_shows_traces())))
    failed = any(check["outcome"] == "failed" for check in checks)
    if as_json:
        facts = {"reference": name, "model_name": model_name, "ok": not failed}
        echo_json(facts | {"checks": checks})
    else:
        click.echo(count_line(checks))
    if failed:
        raise click.exceptions.Exit(1)


@verb(
    "Begin a plugin: a folder with a working backbone.",
    click.Argument(["name"]),
    option("--dir folder", PATH, metavar="D"),
)
def new_plugin(name: str, folder: Path | None) -> None:
    """Begin a plugin for the family NAME: a folder with a working backbone, its packaging and its
    tests, to be changed into yours.

    Options:
    --dir: Folder to write to, new or empty.  [default: ./mismatch-NAME]
    """
    from mismatch.backbones.template import write_plugin

    folder = folder or Path(f"mismatch-{name}")
    for path in write_plugin(name, folder):
        click.echo(path)
    click.echo(next_line(name, folder), err=True)


def _shows_traces() -> bool:
    return bool(click.get_current_context().meta.get("mismatch.debug"))


WHAT = "Show, check and begin backbone families."
command = click.Group("command", help=WHAT, short_help=WHAT)
command.add_command(list_families, "list")
command.add_command(show_family, "show")
command.add_command(check_family, "check")
command.add_command(new_plugin, "new")
