"""What the library logs is printed while a command runs, and only then."""

from __future__ import annotations

import logging

import click
import pytest

from mismatch.cli.logs import lines_on_stdout, logs_as_lines
from mismatch.cli.quickstart import command as quickstart
from mismatch.cli.train import command as train


def test_records_are_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("mismatch.jobs.anything")
    with logs_as_lines():
        logger.debug("unseen")
        logger.info("10 rows %s", "read")
        logger.warning("one is odd")
    assert capsys.readouterr().err == "10 rows read\nmismatch: warning: one is odd\n"
    logger.info("after it")
    assert capsys.readouterr().err == ""
    assert logging.getLogger("mismatch").level == logging.NOTSET
    assert logging.getLogger("mismatch").propagate


def test_lines_of_training_name_its_flags_in_whichever_command_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with lines_on_stdout("mismatch.training", train), click.Context(quickstart):
        logging.getLogger("mismatch.training.run").info("`tune='full'` on cpu")
    assert capsys.readouterr().out == "--tune full on cpu\n"
