"""`mismatch backbones`: which backbone families are installed, and what became of each plugin."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from mismatch.backbones import registry
from mismatch.backbones.registry import BackboneFamily, Problem

__all__ = ["command"]

COLUMNS = ("family", "default model", "distribution", "description")


@click.group(short_help="Show the installed backbone families.")
def command() -> None:
    """Show the installed backbone families."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the plugins that are broken or lost a name.")
def list_families(as_json: bool) -> None:
    """List the installed families and their models; torch is not loaded."""
    found, broken = registry.families(), registry.problems()
    if as_json:
        _print_json({"families": [_facts(item) for item in found.values()], "problems": [asdict(problem) for problem in broken]})
    elif found:
        _print_table(list(found.values()))
    else:
        click.echo("No backbone family is installed.")


@command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def show_family(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show one family, or why the plugin NAME is left out; --debug adds the plugin's traceback."""
    broken = [problem for problem in registry.problems() if problem.entry_point == name]
    facts: dict[str, Any] = _facts(registry.family(name)) if name in registry.families() or not broken else {"name": name}
    facts["problems"] = [asdict(problem) for problem in broken]
    if as_json:
        _print_json(facts)
    else:
        _print_facts(facts, broken, with_trace=bool(ctx.meta.get("mismatch.debug")))
    if "default_model" not in facts:
        ctx.exit(1)


def _facts(item: BackboneFamily) -> dict[str, Any]:
    return {key: value for key, value in vars(item).items() if key != "load"} | {"models": list(item.models)}


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def _print_table(found: list[BackboneFamily]) -> None:
    rows = [COLUMNS, *((item.name, item.default_model, f"{item.distribution} {item.version}", item.description) for item in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for item in found:
        click.echo(f"\n{item.name} models: {', '.join(item.models)}")


def _print_facts(facts: dict[str, Any], broken: list[Problem], *, with_trace: bool) -> None:
    lines = {key.replace("_", " "): ", ".join(value) if isinstance(value, list) else value for key, value in facts.items() if key != "problems"}
    width = max(len(key) for key in [*lines, "problem"])
    for key, value in lines.items():
        click.echo(f"{key.ljust(width)}  {value}")
    for problem in broken:
        click.echo(f"{'problem'.ljust(width)}  {problem.message}")
        if with_trace:
            click.echo(problem.trace.rstrip())
