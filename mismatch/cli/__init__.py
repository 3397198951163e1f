"""The command line: a module for each verb, imported when asked for; an error is one line."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import click

from mismatch import __version__
from mismatch.cli.flags import with_flags
from mismatch.cli.logs import logs_as_lines
from mismatch.cli.progress import progress_bar
from mismatch.cli.sections import SECTIONS, VERBS, write_sections
from mismatch.errors import MismatchError, MismatchWarning
from mismatch.io.endings import ENDINGS, terminate_as_interrupt
from mismatch.io.explained_errors import explained
from mismatch.io.streams import (
    open_closed_streams,
    settle,
    show_all_letters,
    start_in_utf8,
    stream_error,
)
from mismatch.progress import shown_by
from mismatch.reports.start_lines import START

__all__ = ["VERBS", "LazyGroup", "command_paths", "help_text", "main"]

HELP_WIDTH = 100  # columns at most, so that help reads alike on wide terminals
INPUT_EXIT = 2  # a wrong option, file or row; an absent device, extra or backbone
BUG_EXIT = 70  # EX_SOFTWARE of sysexits.h
INTERRUPT_EXIT = 130  # 128 + SIGINT, as shells have it
DEBUG = "mismatch.debug"  # key in the meta that click's contexts share


class LazyGroup(click.Group):
    """A group that imports a verb's module when the verb is looked up, and ends every failure in
    one line and an exit code.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        if cmd_name not in self.commands:
            module = import_module(f"mismatch.cli.{cmd_name.replace('-', '_')}")
            self.add_command(_with_debug(module.command), cmd_name)
        return self.commands[cmd_name]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = {verb: self.get_command(ctx, verb) for verb in VERBS}
        rows = {
            verb: (verb, command.get_short_help_str(HELP_WIDTH))
            for verb, command in commands.items()
            if command is not None
        }
        write_sections(formatter, SECTIONS, rows)
        click.Command.format_options(self, ctx, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(START)
            ctx.exit()
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = _dashes(args[0])
        if name in VERBS or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        from mismatch.io.text import did_you_mean

        raise click.UsageError(f"there is no command {args[0]!r}{did_you_mean(name, VERBS)}", ctx)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _warnings_as_lines(), logs_as_lines(), shown_by(progress_bar):
                return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.meta.get(DEBUG):
                traceback.print_exc()
            verb = ctx.invoked_subcommand
            raise _Failure(
                explained(error, f"mismatch {verb}"), self.commands.get(verb or "")
            ) from error

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = "mismatch", **extra: Any
    ) -> NoReturn:
        """Run one command line and exit: 0 done, 1 the verb's own no, 2 wrong input, 70 a bug, 130
        interrupted, 143 terminated, 129 hung up.
        """
        if args is None:
            start_in_utf8()
        open_closed_streams()
        show_all_letters(sys.stdout)
        code: object = 0
        try:
            with terminate_as_interrupt() as signals:
                code = super().main(args, prog_name, **extra | {"standalone_mode": False})
        except click.Abort:
            code = _say(*ENDINGS[signals[0]]) if signals else _say("interrupted", INTERRUPT_EXIT)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = INPUT_EXIT
        except click.ClickException as error:
            code = _say(
                f"error: {error.format_message()}{_where_help_is(error)}",
                getattr(error, "code", INPUT_EXIT),
            )
        except OSError as error:  # writing help or the version, which click does itself
            code = _say(f"error: {stream_error(error)}", INPUT_EXIT)
        settle(sys.stdout)
        sys.exit(code if isinstance(code, int) else 0)


class _Failure(click.ClickException):
    """An exception on its way out, with the exit code that it means."""

    def __init__(self, error: Exception, command: click.Command | None) -> None:
        expected = isinstance(error, (MismatchError, OSError))
        unforeseen = (
            f"unexpected {type(error).__name__}: {error}; this is a bug, `mismatch --debug …` shows"
            " where"
        )
        super().__init__(with_flags(str(error), command) if expected else unforeseen)
        self.code = INPUT_EXIT if expected else BUG_EXIT


def help_text(*path: str) -> str:
    """Return what `mismatch PATH… --help` prints, at a fixed width whatever the terminal."""
    ctx = click.Context(
        main, info_name="mismatch", terminal_width=HELP_WIDTH, **main.context_settings
    )
    for name in path:
        command = (
            ctx.command.get_command(ctx, name) if isinstance(ctx.command, click.Group) else None
        )
        if command is None:
            raise click.UsageError(f"there is no command {name!r}", ctx)
        ctx = click.Context(command, info_name=name, parent=ctx, **command.context_settings)
    return ctx.get_help()


def command_paths() -> list[tuple[str, ...]]:
    """Return `()` for mismatch itself, then `("quickstart",)`, …, `("backbones", "list")`:
    everything that `help_text` takes, in order.
    """
    paths: list[tuple[str, ...]] = [()]
    for verb in VERBS:
        command = main.get_command(click.Context(main), verb)
        paths.append((verb,))
        if isinstance(command, click.Group):
            paths += [(verb, name) for name in command.list_commands(click.Context(command))]
    return paths


def _dashes(token: str) -> str:
    """Map `train_csv` → `train-csv`: options and verbs are accepted in both spellings."""
    return token.replace("_", "-")


def _with_debug(command: click.Command) -> click.Command:
    """Let `--debug` stand after the verb too."""
    if isinstance(command, click.Group):
        for child in command.commands.values():
            _with_debug(child)
    else:
        command.params.append(_debug_option())
    return command


def _debug_option() -> click.Option:
    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        envvar="MISMATCH_DEBUG",
        show_envvar=True,
        callback=_set_debug,
        help="Show the traceback of an error.",
    )


def _set_debug(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[DEBUG] = True


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print a MismatchWarning as `mismatch: warning: …`; other warnings stay as they are, but for
    those of Pillow's of images, whose rows have a status.
    """
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, MismatchWarning):
                _say(f"warning: {message}", 0)
            else:
                others(message, category, *where, **more)

        warnings.showwarning = show
        warnings.simplefilter("always", MismatchWarning)
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        yield


def _say(text: str, code: int) -> int:
    click.echo(f"mismatch: {text}", err=True)
    return code


def _where_help_is(error: click.ClickException) -> str:
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
    return f" (see `{path} --help`)" if path else ""


main = LazyGroup(
    "mismatch",
    help=(
        "Does this text describe this image? Train, evaluate, export and predict on image-text"
        " pairs."
    ),
    epilog="Options may be written with underscores too: --train_csv is --train-csv.",
    context_settings={
        "token_normalize_func": _dashes,
        "max_content_width": HELP_WIDTH,
        "help_option_names": ["-h", "--help"],
    },
)
main = click.version_option(__version__, message="mismatch %(version)s")(main)
main.params.append(_debug_option())
