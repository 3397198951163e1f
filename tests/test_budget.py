"""mismatch.serving.budget: bytes that all requests hold together."""

from __future__ import annotations

import pytest
from starlette.exceptions import HTTPException

from mismatch.serving.budget import SMALL, Budget, client_of, current_account


def test_large_requests_leave_room_for_small_ones() -> None:
    budget = Budget(16 * SMALL, 4 * SMALL)
    with budget.account("a") as first, budget.account("b") as second, budget.account("c") as small:
        for _ in range(4):
            first.take(SMALL)
        for _ in range(8):
            second.take(SMALL)
        with pytest.raises(HTTPException) as error:
            first.take(SMALL)
        assert error.value.status_code == 503
        assert (error.value.headers or {})["retry-after"] == "1"
        assert not budget.fits(SMALL + 1)
        small.take(SMALL)
        assert budget.held == 13 * SMALL, "what was refused isn't held"
    assert budget.held == 0


def test_one_request_of_the_largest_size_always_has_room_when_it_is_alone() -> None:
    budget = Budget(4 * SMALL, 4 * SMALL)
    with budget.account("a") as account:
        account.take(4 * SMALL)
        with pytest.raises(HTTPException):
            account.take(1)


def test_the_account_of_a_request_is_found_while_it_is_answered() -> None:
    assert current_account() is None
    with Budget(SMALL, SMALL).account("a") as account:
        assert current_account() is account
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
