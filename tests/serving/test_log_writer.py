"""mismatch.serving.log_writer: the log never keeps the service waiting."""

from __future__ import annotations

import io
import json
import logging
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mismatch.serving import log_writer
from mismatch.serving.log_writer import LogWriter


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    found = logging.Logger("test")
    yield found
    for handler in found.handlers:
        handler.close()


def test_lines_are_written_in_order(logger: logging.Logger) -> None:
    held = io.StringIO()
    writer = LogWriter(held)
    logger.addHandler(writer)
    for number in range(100):
        logger.info("line %d", number)
    assert writer.drain()
    assert held.getvalue().splitlines() == [f"line {number}" for number in range(100)]


def test_a_pipe_that_nobody_reads_keeps_nobody_waiting_and_the_lost_lines_are_counted(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "MAX_WAITING_LINES", 50)
    end, start = os.pipe()
    with os.fdopen(end, "rb") as reader, os.fdopen(start, "w") as stream:
        writer = LogWriter(stream)
        logger.addHandler(writer)
        begin = time.monotonic()
        for number in range(300):
            logger.info("%d %s", number, "x" * 10_000)
        assert time.monotonic() - begin < 5
        assert not writer.drain(0.1)
        seen = [reader.readline()]
        until = time.monotonic() + 10
        while not writer.drain(0.01):
            seen.append(reader.readline())
            assert time.monotonic() < until
        logger.info("the last one \ud800")
        assert writer.drain()
        stream.close()
        seen += reader.readlines()
    # the writer may say so more than once, as it goes on
    reports = [json.loads(line) for line in seen if line.startswith(b"{")]
    lost = sum(report["lines"] for report in reports)
    whole = [line for line in seen if line.endswith(b"x\n")]
    assert {report["level"] for report in reports} == {"warning"}
    assert lost == 300 - len(whole)
    assert seen[-1] == b"the last one \\ud800\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a full disk")
def test_a_full_disk_or_a_closed_pipe_fails_nobody(logger: logging.Logger) -> None:
    end, start = os.pipe()
    os.close(end)
    streams: list[Any] = [open("/dev/full", "w"), os.fdopen(start, "w"), io.StringIO()]  # noqa: SIM115
    streams[2].close()
    for stream in streams:
        writer = LogWriter(stream)
        logger.addHandler(writer)
    for _ in range(3):
        logger.info("a line")
    assert all(handler.drain() for handler in logger.handlers if isinstance(handler, LogWriter))
    for stream in streams:
        stream.close()
