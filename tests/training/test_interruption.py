"""Signals: the first waits for what is held, a second Ctrl-C doesn't, and the handlers of before
come back and learn of it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from mismatch.training import interruption as module
from mismatch.training.interruption import Interruption


@pytest.fixture(autouse=True)
def handlers_come_back() -> Iterator[None]:
    before = [signal.getsignal(number) for number in module.SIGNALS]
    yield
    assert [signal.getsignal(number) for number in module.SIGNALS] == before


def send(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", module.SIGNALS)
def test_a_signal_ends_at_once_what_is_not_held(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), Interruption() as interruption:
        send(number)
    assert (interruption.came, interruption.number) == (True, number)


@pytest.mark.parametrize("number", module.SIGNALS)
def test_what_is_held_is_finished_first(number: int) -> None:
    done = []

    def work() -> None:
        with Interruption() as interruption:
            with interruption.held():
                send(number)
                done.append(interruption.came)
            done.append(False)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [True]


def test_without_a_signal_nothing_happens() -> None:
    with Interruption() as interruption:
        with interruption.held():
            pass
        interruption.check()
    assert not interruption.came


def test_a_second_ctrl_c_does_not_wait_and_an_echo_of_the_first_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = []

    def work() -> None:
        with Interruption() as interruption, interruption.held():
            send()
            send()
            send(signal.SIGTERM)
            done.append("waited")
            monkeypatch.setattr(module, "ONE_PRESS", 0.0)
            send(signal.SIGTERM)  # `timeout` sends two
            done.append("waited")
            send()
            done.append("never")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["waited", "waited"]


def test_an_earlier_handler_of_sigterm_learns_of_it() -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        with pytest.raises(KeyboardInterrupt), Interruption():
            send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), Interruption():
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == [signal.SIGTERM]


def test_a_process_ends_as_another_one_of_its_run() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption() as interruption, interruption.held():
        interruption.follow()
    assert interruption.number == signal.SIGTERM


def test_outside_the_main_thread_handlers_are_left_alone() -> None:
    seen: list[object] = []

    def enter() -> None:
        with Interruption():
            seen.extend(signal.getsignal(number) for number in module.SIGNALS)

    before = [signal.getsignal(number) for number in module.SIGNALS]
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_what_nohup_has_switched_off_stays_off() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            send(signal.SIGHUP)
            interruption.check()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not interruption.came
