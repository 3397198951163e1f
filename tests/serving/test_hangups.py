"""mismatch.serving.hangups: SIGHUP before anybody can load models again."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from mismatch.serving.hangups import can_hang_up, deferred_hangups

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")


def test_it_comes_again_once_somebody_handles_it() -> None:
    before = signal.getsignal(signal.SIGHUP)
    came: list[int] = []
    with deferred_hangups() as send_again:
        os.kill(os.getpid(), signal.SIGHUP)
        own = signal.signal(signal.SIGHUP, lambda number, _: came.append(number))
        send_again()
        send_again()
        signal.signal(signal.SIGHUP, own)
    assert came == [signal.SIGHUP]
    assert signal.getsignal(signal.SIGHUP) is before


def test_none_comes_where_none_came() -> None:
    with deferred_hangups() as send_again:
        own = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        send_again()
        signal.signal(signal.SIGHUP, own)


def test_other_threads_leave_it_alone() -> None:
    found: list[bool] = []

    def work() -> None:
        with deferred_hangups() as send_again:
            send_again()
            found.append(can_hang_up())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
    assert can_hang_up()
