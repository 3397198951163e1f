"""mismatch.serving.budget: bytes that all requests hold together."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from starlette.exceptions import HTTPException

from mismatch.serving.budget import SMALL, Budget, client_of, current_account, current_client


def test_large_requests_leave_room_for_small_ones() -> None:
    budget = Budget(16 * SMALL, 4 * SMALL)
    with ExitStack() as stack:
        first, second, third = (stack.enter_context(budget.account(name)) for name in "abc")
        first.take(4 * SMALL)
        second.take(6 * SMALL)
        third.take(2 * SMALL)
        with pytest.raises(HTTPException) as error:
            first.take(SMALL)
        assert error.value.status_code == 503
        assert (error.value.headers or {})["retry-after"] == "1"
        assert not budget.fits("d", SMALL + 1)
        stack.enter_context(budget.account("d")).take(SMALL)
        assert budget.held == 13 * SMALL, "what was refused isn't held"
    assert budget.held == 0


def test_large_requests_of_one_client_leave_room_for_another_clients() -> None:
    budget = Budget(16 * SMALL, 4 * SMALL)
    with ExitStack() as stack:
        accounts = [stack.enter_context(budget.account("hostile")) for _ in range(4)]
        for account in accounts[:3]:
            account.take(2 * SMALL)
        with pytest.raises(HTTPException) as error:
            accounts[3].take(2 * SMALL)
        assert error.value.status_code == 503
        assert not budget.fits("hostile", 2 * SMALL)
        assert budget.fits("hostile", SMALL), "a small one"
        assert budget.fits("other", 4 * SMALL)
        stack.enter_context(budget.account("other")).take(4 * SMALL)
    assert budget.fits("hostile", 4 * SMALL), "what was held has come back"


def test_small_requests_of_one_client_leave_room_for_another_clients() -> None:
    budget = Budget(16 * SMALL, 4 * SMALL)
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(budget.account("hostile")).take(SMALL)
        assert not budget.fits("hostile", 1)
        with pytest.raises(HTTPException):
            stack.enter_context(budget.account("hostile")).take(1)
        for _ in range(8):
            stack.enter_context(budget.account("other")).take(SMALL)
    assert budget.held == 0


@pytest.mark.parametrize("largest", [SMALL // 2, SMALL, 3 * SMALL])
def test_a_clients_only_request_needs_no_share(largest: int) -> None:
    budget = Budget(largest, largest)
    with budget.account("a") as account:
        account.take(largest)


def test_one_request_of_the_largest_size_always_has_room_when_it_is_alone() -> None:
    budget = Budget(4 * SMALL, 4 * SMALL)
    with budget.account("a") as account:
        account.take(4 * SMALL)
        with pytest.raises(HTTPException):
            account.take(1)


def test_nothing_is_taken_once_a_request_has_ended() -> None:
    budget = Budget(4 * SMALL, 4 * SMALL)
    with budget.account("a") as account:
        account.take(1)
    with pytest.raises(HTTPException):
        account.take(4 * SMALL)
    with budget.account("b") as other:
        other.take(4 * SMALL)


def test_the_account_of_a_request_is_found_while_it_is_answered() -> None:
    assert current_account() is None
    assert current_client() == "unknown"
    with Budget(SMALL, SMALL).account("a") as account:
        assert current_account() is account
        assert current_client() == "a"
    assert current_account() is None


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_an_address_stands_for_a_client(address: str | None, client: str) -> None:
    assert client_of(address) == client
