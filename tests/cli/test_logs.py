"""What the library logs is printed while a command runs, and only then."""

from __future__ import annotations

import logging

import pytest

from mismatch.cli.logs import logs_as_lines


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
