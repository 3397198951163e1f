"""Help in sections: which verbs stand together, and how sections are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import click

__all__ = ["SECTIONS", "VERBS", "SectionedCommand", "write_sections"]

# In the order in which a newcomer meets them; `export-onnx` is `command` in
# mismatch/cli/export_onnx.py.
SECTIONS = {
    "Start": ("quickstart", "doctor"),
    "Data": ("fetch", "convert", "validate", "split", "make-negatives", "audit-labels"),
    "Train": ("train", "evaluate"),
    "Decide": ("calibrate", "tune-threshold"),
    "Use": ("predict", "explain", "export-onnx", "push", "serve", "benchmark"),
    "Plugins": ("backbones",),
}
VERBS = tuple(verb for verbs in SECTIONS.values() for verb in verbs)
WIDEST = 30  # columns of names, as click has them; longer ones have a line of their own


def write_sections(
    formatter: click.HelpFormatter,
    sections: Mapping[str, Iterable[str]],
    rows: Mapping[str, tuple[str, str]],
) -> None:
    """Write rows (a name as shown, its help) under titles, all in the same two columns."""
    width = min(WIDEST, max(len(shown) for shown, _ in rows.values()))
    for title, names in sections.items():
        with formatter.section(title):
            formatter.write_dl([(rows[name][0].ljust(width), rows[name][1]) for name in names])


class SectionedCommand(click.Command):
    """A command whose options may stand in sections; those in none come last."""

    sections: Mapping[str, Iterable[str]] = MappingProxyType({})  # title → parameters' names

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if not self.sections:
            super().format_options(ctx, formatter)
            return
        records = {param.name or "": param.get_help_record(ctx) for param in self.get_params(ctx)}
        rows = {name: record for name, record in records.items() if record is not None}
        named = {name for names in self.sections.values() for name in names}
        others = [name for name in rows if name not in named]
        write_sections(formatter, {**self.sections, "Others": others}, rows)
