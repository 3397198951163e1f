"""`mismatch backbones`: which backbone families are installed, what became of each plugin, whether
one keeps the contract, and how to begin a new one.
"""

from __future__ import annotations

import json
import shlex
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from mismatch.backbones import registry
from mismatch.backbones.families import BackboneFamily, Problem
from mismatch.errors import MismatchError

__all__ = ["command"]

COLUMNS = ("family", "default model", "distribution", "description")


@click.group(short_help="Show, check and begin backbone families.")
def command() -> None:
    """Show, check and begin backbone families."""


@command.command("list")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON, with the plugins that are broken or lost a name.",
)
def list_families(as_json: bool) -> None:
    """List the installed families and their models; torch is not loaded."""
    found = registry.families()
    broken = registry.problems()
    if as_json:
        _print_json(
            {
                "families": [_facts(item) for item in found.values()],
                "problems": [asdict(problem) for problem in broken],
            }
        )
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
    broken = registry.problems_of(name)
    found = registry.family_of(name)
    if found is None and not broken:
        registry.family(name)  # raises, with the nearest name
    facts: dict[str, Any] = {"name": name} | _origin(broken[0]) if found is None else _facts(found)
    facts["problems"] = [asdict(problem) for problem in broken]
    if as_json:
        _print_json(facts)
    else:
        _print_facts(facts, broken, with_trace=bool(ctx.meta.get("mismatch.debug")))
    if "default_model" not in facts:
        ctx.exit(1)


@command.command("check", short_help="Run the contract against one backbone.")
@click.argument("name")
@click.option(
    "--model-name",
    metavar="M",
    help="MODEL of the family, or a local directory.  [default: the family's own]",
)
@click.option(
    "--only",
    multiple=True,
    metavar="CHECK",
    help='One check by its name, as in "onnx export"; may be repeated.  [default: all]',
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def check_family(
    ctx: click.Context, name: str, model_name: str | None, only: tuple[str, ...], as_json: bool
) -> None:
    """Run the contract against the backbone NAME (FAMILY or FAMILY:MODEL): what its author has to
    keep, check by check.

    Exit code 1 where a check fails; each failure says what to change.
    """
    checks = []
    for check in _checks(name, model_name, only):
        checks.append(check)
        if not as_json:
            _print_check(check, with_trace=bool(ctx.meta.get("mismatch.debug")))
    failed = sum(check["outcome"] == "failed" for check in checks)
    if as_json:
        _print_json(
            {"reference": name, "model_name": model_name, "ok": not failed, "checks": checks}
        )
    else:
        counts = Counter(check["outcome"] for check in checks)
        click.echo(
            ", ".join(
                f"{counts[outcome]} {outcome}"
                for outcome in ("passed", "failed", "skipped")
                if counts[outcome]
            )
        )
    if failed:
        ctx.exit(1)


@command.command("new", short_help="Begin a plugin: a folder with a working backbone.")
@click.argument("name")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    metavar="D",
    help="Folder to write to, new or empty.  [default: ./mismatch-NAME]",
)
def new_plugin(name: str, folder: Path | None) -> None:
    """Begin a plugin for the family NAME: a folder with a working backbone, its packaging and its
    tests, to be changed into yours.
    """
    from mismatch.backbones.template import write_plugin

    if taken := registry.families().get(name):
        raise click.UsageError(
            f"the family {name!r} is there already, from {taken.distribution}; choose another name"
        )
    folder = folder or Path(f"mismatch-{name}")
    for path in write_plugin(name, folder):
        click.echo(path)
    place = shlex.quote(str(folder))
    editable = shlex.quote(f"{folder}[test]")
    click.echo(
        f"next: pip install -e {editable}, mismatch backbones check {name}, and pytest {place}",
        err=True,
    )


def _checks(name: str, model_name: str | None, only: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield all checks. The plugin and its loading count too, as nothing else can run where they
    fail.
    """
    family = name.partition(":")[0]
    if family not in registry.families() and (broken := registry.problems_of(family)):
        yield from (_failed("hook", problem.message, problem.trace) for problem in broken)
        return
    reference = ":".join(registry.parse_reference(name, model_name))
    from mismatch.testing.contract import check_selection, iter_checks

    check_selection(only)
    try:
        backbone = registry.load_backbone(reference)
    except MismatchError as error:
        yield _failed("load", str(error), "".join(traceback.format_exception(error)))
        return
    for check in iter_checks(backbone, reference=reference, only=only or None):
        yield asdict(check) | {"seconds": round(check.seconds, 3)}


def _failed(name: str, message: str, trace: str) -> dict[str, Any]:
    return {"name": name, "outcome": "failed", "message": message, "seconds": 0.0, "trace": trace}


def _print_check(check: dict[str, Any], *, with_trace: bool) -> None:
    word = {"passed": "ok", "failed": "FAIL", "skipped": "skip"}[check["outcome"]]
    click.echo(f"{word:<5} {check['name']}{': ' if check['message'] else ''}{check['message']}")
    if with_trace and check["trace"]:
        click.echo(check["trace"].rstrip())


def _origin(problem: Problem) -> dict[str, Any]:
    return {
        name: getattr(problem, name)
        for name in ("distribution", "version", "entry_point", "module")
    }


def _facts(item: BackboneFamily) -> dict[str, Any]:
    return {key: value for key, value in vars(item).items() if key != "load"} | {
        "models": list(item.models)
    }


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def _print_table(found: list[BackboneFamily]) -> None:
    rows = [
        COLUMNS,
        *(
            (item.name, item.default_model, f"{item.distribution} {item.version}", item.description)
            for item in found
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        click.echo(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    for item in found:
        click.echo(f"\n{item.name} models: {', '.join(item.models)}")


def _print_facts(facts: dict[str, Any], broken: list[Problem], *, with_trace: bool) -> None:
    lines = {
        key.replace("_", " "): ", ".join(value) if isinstance(value, list) else value
        for key, value in facts.items()
        if key != "problems"
    }
    width = max(len(key) for key in [*lines, "problem"])
    for key, value in lines.items():
        click.echo(f"{key.ljust(width)}  {value}")
    for problem in broken:
        click.echo(f"{'problem'.ljust(width)}  {problem.message}")
        if with_trace:
            click.echo(problem.trace.rstrip())
