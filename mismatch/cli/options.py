"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from mismatch.specs import LongText

__all__ = ["MODEL_ENV", "long_text_option", "model_option", "model_options"]

MODEL_ENV = "CLIP_FINE_TUNED_MODEL_PATH"
F = TypeVar("F", bound=Callable[..., Any])


def model_option(function: F) -> F:
    """`--model`."""
    text = f"Folder of a trained model or an ONNX bundle, or FAMILY:MODEL for zero-shot.  [default: ${MODEL_ENV}]"
    return click.option("--model", required=True, envvar=MODEL_ENV, metavar="DIR", help=text)(function)


def model_options(function: F) -> F:
    """`--model`, and how to run it."""
    for decorate in (
        click.option("--threads", type=click.IntRange(1), help="Threads of the towers.  [default: the engine's own choice]"),
        click.option("--num-workers", type=click.IntRange(0), help="Threads that decode images.  [default: one per CPU]"),
        click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True, help="Images a tower call; four times as many texts."),
        click.option(
            "--provider",
            "--device",
            "provider",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            show_default=True,
            help="Where it runs; cuda where there is none is an error.",
        ),
        model_option,
    ):
        function = decorate(function)
    return function


def long_text_option(function: F) -> F:
    """`--long-text`."""
    text = (
        "Texts over the backbone's context: truncate scores them without their end, chunk in pieces, the worst of which decides, chunk-mean by "
        "the pieces' mean.  [default: as the model was trained]"
    )
    return click.option("--long-text", type=click.Choice(get_args(LongText)), help=text)(function)
