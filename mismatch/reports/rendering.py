"""Templates into HTML: what they are given is text and escaped, but for the plots' SVG."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mismatch.io.atomic import WaitingNames, atomic_file
from mismatch.reports.evaluation_words import (
    FIGURES,
    SHARES,
    bounds,
    heading,
    number,
    percent,
    percents,
    signed,
)
from mismatch.reports.markdown import code_span, plain_words

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["environment", "render", "write_page"]

CHUNK = 1000  # pieces of a page that are written together


@cache
def environment() -> Environment:
    """Return what reads templates/; a name that a template isn't given is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("mismatch.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    templates.filters |= {
        "bounds": bounds,
        "code": code_span,
        "heading": heading,
        "number": number,
        "percent": percent,
        "percents": percents,
        "plain": plain_words,
        "signed": signed,
        "thousands": "{:,}".format,
    }
    templates.globals["figure_names"] = [*FIGURES, *SHARES]
    return templates


def render(template: str, **context: Any) -> str:
    """Return HTML to stand inside of another page."""
    return environment().get_template(template).render(context)


def write_page(
    path: Path, template: str, *, names: WaitingNames | None = None, **context: Any
) -> None:
    """Write a page whole or not at all, see `atomic_file`. What is given as an iterator is taken
    as it is written.
    """
    stream = environment().get_template(template).stream(context)
    stream.enable_buffering(CHUNK)
    with atomic_file(path, names) as file:
        file.writelines(stream)
