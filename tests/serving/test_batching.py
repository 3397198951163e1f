"""Pairs of many requests are scored together, in order, within bounds, and none is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import pytest

from mismatch.runtime.predictor import Prediction
from mismatch.serving.batching import Batcher, ClosedError, FullError


class Scorer:
    """Says of each row its own number; may be held up, or fail."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        self.go.wait(20)
        self.batches.append([row["n"] for row in rows])
        if any(row["n"] < 0 for row in rows):
            raise RuntimeError("a bug")
        return [
            Prediction("", str(row["n"]), row["n"] / 1000, 0.5, False, "mismatch", "ok", 0.0)
            for row in rows
        ]


def rows(*numbers: int) -> list[dict[str, int]]:
    return [{"n": number} for number in numbers]


def run(work: Any, **options: Any) -> tuple[Scorer, Any]:
    """A batcher within a loop of its own; what `work(batcher, scorer)` returns."""
    scorer = Scorer()

    async def inside() -> Any:
        batcher = Batcher(scorer, **{"batch": 4, "wait": 0.01, "queue": 20} | options)
        batcher.start()
        try:
            return await work(batcher, scorer)
        finally:
            scorer.go.set()
            await batcher.close()

    return scorer, asyncio.run(inside())


def texts(found: Sequence[Prediction]) -> list[str]:
    return [one.text for one in found]


def test_requests_that_come_together_are_scored_together() -> None:
    async def work(batcher: Batcher, scorer: Scorer) -> Any:
        return await asyncio.gather(*(batcher.predict(rows(number)) for number in range(4)))

    scorer, found = run(work)
    assert [texts(one) for one in found] == [["0"], ["1"], ["2"], ["3"]]
    assert scorer.batches == [[0, 1, 2, 3]]


def test_a_long_request_is_cut_and_keeps_its_order() -> None:
    async def work(batcher: Batcher, scorer: Scorer) -> Any:
        return await asyncio.gather(
            batcher.predict(rows(*range(10))), batcher.predict(rows(20, 21))
        )

    scorer, (first, second) = run(work)
    assert texts(first) == [str(number) for number in range(10)]
    assert texts(second) == ["20", "21"]
    assert [len(batch) for batch in scorer.batches] == [4, 4, 4]


def test_beyond_the_bound_it_is_refused_at_once_and_later_taken_again() -> None:
    async def work(batcher: Batcher, scorer: Scorer) -> Any:
        scorer.go.clear()
        first = [asyncio.ensure_future(batcher.predict(rows(number))) for number in range(4)]
        await asyncio.sleep(0.1)  # these are being scored, so nothing waits
        more = [asyncio.ensure_future(batcher.predict(rows(*range(5)))) for _ in range(4)]
        await asyncio.sleep(0)
        assert batcher.waiting == 20
        with pytest.raises(FullError, match="20 pairs wait already"):
            await batcher.predict(rows(1))
        scorer.go.set()
        await asyncio.gather(*first, *more)
        assert batcher.waiting == 0
        return await batcher.predict(rows(7))

    _, found = run(work)
    assert texts(found) == ["7"]


def test_a_failure_is_told_to_those_it_concerns_and_to_nobody_else() -> None:
    async def work(batcher: Batcher, scorer: Scorer) -> Any:
        with pytest.raises(RuntimeError, match="a bug"):
            await batcher.predict(rows(1, -1, 2, 3, 4, 5))
        assert batcher.waiting == 0
        return await batcher.predict(rows(8))

    scorer, found = run(work)
    assert texts(found) == ["8"]
    assert scorer.batches == [[1, -1, 2, 3], [8]], "the rest of the failed request is not scored"


def test_closing_ends_a_wait_for_more_pairs() -> None:
    async def work(batcher: Batcher, scorer: Scorer) -> Any:
        asked = asyncio.ensure_future(batcher.predict(rows(1)))
        await asyncio.sleep(0.01)
        await asyncio.wait_for(batcher.close(), 5)
        return await asked

    _, found = run(work, wait=1e308)
    assert texts(found) == ["1"]


def test_who_has_gone_is_not_scored() -> None:
    async def work(batcher: Batcher, scorer: Scorer) -> Any:
        scorer.go.clear()
        held = asyncio.ensure_future(batcher.predict(rows(0, 1, 2, 3)))
        await asyncio.sleep(0.05)
        gone = asyncio.ensure_future(batcher.predict(rows(50, 51)))
        await asyncio.sleep(0)
        gone.cancel()
        stays = asyncio.ensure_future(batcher.predict(rows(60)))
        await asyncio.sleep(0)
        scorer.go.set()
        return await asyncio.gather(held, stays)

    scorer, (_, stays) = run(work)
    assert texts(stays) == ["60"]
    assert scorer.batches == [[0, 1, 2, 3], [60]]


def test_closing_finishes_what_waits_and_takes_nothing_more() -> None:
    scorer = Scorer()

    async def inside() -> Any:
        batcher = Batcher(scorer, batch=2, wait=0.0, queue=20)
        batcher.start()
        scorer.go.clear()
        waiting = [asyncio.ensure_future(batcher.predict(rows(number))) for number in range(5)]
        await asyncio.sleep(0.05)
        closing = asyncio.ensure_future(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(ClosedError):
            await batcher.predict(rows(9))
        scorer.go.set()
        await closing
        return await asyncio.gather(*waiting)

    assert [texts(one) for one in asyncio.run(inside())] == [["0"], ["1"], ["2"], ["3"], ["4"]]
    assert sum(map(len, scorer.batches)) == 5


def test_no_rows_are_no_work() -> None:
    def work(batcher: Batcher, scorer: Scorer) -> Coroutine[Any, Any, Any]:
        return batcher.predict([])

    scorer, found = run(work)
    assert (found, scorer.batches) == ([], [])


def slow(*numbers: int) -> list[dict[str, Any]]:
    """Rows of long texts, each another one."""
    return [{"n": number, "text": f"{number:05}" + "Ã" * 7_995} for number in numbers]


async def behind_a_batch(batcher: Batcher, scorer: Scorer) -> asyncio.Task[Any]:
    """A batch that is being scored until `scorer.go` is set."""
    scorer.go.clear()
    held = asyncio.ensure_future(batcher.predict(rows(900), "held"))
    while not batcher.waiting:
        await asyncio.sleep(0)
    while batcher.waiting:
        await asyncio.sleep(0.01)
    return held


def test_clients_take_turns_and_so_do_the_requests_of_one() -> None:
    async def work(batcher: Batcher, scorer: Scorer) -> Any:
        waiting = [await behind_a_batch(batcher, scorer)]
        asked = [(rows(*range(6)), "a"), (rows(10, 11), "a"), (rows(20, 21), "b"), (rows(30), "c")]
        waiting += [asyncio.ensure_future(batcher.predict(*one)) for one in asked]
        await asyncio.sleep(0)
        scorer.go.set()
        return await asyncio.gather(*waiting)

    scorer, found = run(work, wait=0.0)
    assert scorer.batches == [[900], [0, 20, 30, 10], [21, 1, 11, 2], [3, 4, 5]]
    assert [len(one) for one in found] == [1, 6, 2, 2, 1]


def test_one_clients_costly_texts_keep_other_clients_waiting_for_no_more_than_a_batch() -> None:
    async def work(batcher: Batcher, scorer: Scorer) -> Any:
        waiting = [await behind_a_batch(batcher, scorer)]
        waiting.append(asyncio.ensure_future(batcher.predict(slow(*range(20)), "hostile")))
        await asyncio.sleep(0)
        waiting.append(asyncio.ensure_future(batcher.predict(rows(50, 51, 52), "other")))
        await asyncio.sleep(0)
        scorer.go.set()
        return await asyncio.gather(*waiting)

    scorer, _ = run(work, batch=32, queue=32, wait=0.0)
    assert [len(batch) for batch in scorer.batches] == [1, 4, *[1] * 19]
    assert {50, 51, 52} <= set(scorer.batches[1])


def test_a_batch_is_cut_by_its_distinct_texts_and_takes_one_pair_in_any_case() -> None:
    async def work(batcher: Batcher, scorer: Scorer) -> Any:
        same = [{"n": number, "text": "Ã" * 8_000} for number in range(10)]
        longest = [{"n": 20 + number, "text": f"{number}" + "Ã" * 50_000} for number in range(2)]
        await batcher.predict(same)
        await batcher.predict(longest)

    scorer, _ = run(work, batch=32, queue=32)
    assert scorer.batches == [list(range(10)), [20], [21]]


def test_a_client_is_refused_for_its_own_backlog_and_not_for_another_ones() -> None:
    async def work(batcher: Batcher, scorer: Scorer) -> Any:
        waiting = [await behind_a_batch(batcher, scorer)]
        waiting.append(asyncio.ensure_future(batcher.predict(slow(*range(20)), "hostile")))
        await asyncio.sleep(0)
        with pytest.raises(FullError):
            await batcher.predict(rows(1), "hostile")
        waiting.append(asyncio.ensure_future(batcher.predict(rows(*range(50, 60)), "other")))
        await asyncio.sleep(0)
        with pytest.raises(FullError):
            await batcher.predict(rows(60), "other")
        for number in range(9):
            one = batcher.predict(rows(70 + number), f"client {number}")
            waiting.append(asyncio.ensure_future(one))
        await asyncio.sleep(0)
        batcher.check(1, "one more")
        with pytest.raises(FullError):
            batcher.check(2, "one more")
        with pytest.raises(FullError):
            batcher.check(1, "one more", {"being read": 1})
        scorer.go.set()
        return await asyncio.gather(*waiting)

    run(work, wait=0.0)


def test_what_is_expected_is_what_is_ahead_of_a_client_and_of_a_request() -> None:
    async def work(batcher: Batcher, scorer: Scorer) -> Any:
        batcher._spent, batcher._done = 1.0, 10_000.0  # as if a pair took a tenth of a second
        waiting = [await behind_a_batch(batcher, scorer)]
        asked = [rows(number) for number in range(14)] + [rows(20, 21, 22, 23, 24, 25)]
        waiting += [asyncio.ensure_future(batcher.predict(one, "hostile")) for one in asked]
        await asyncio.sleep(0)
        assert batcher.expected_wait("hostile") == pytest.approx(1.6), "the long one counts once"
        assert batcher.expected_wait("hostile", cost=3_000) == pytest.approx(2.1)
        assert batcher.expected_wait("other") == pytest.approx(0.2)
        assert batcher.expected_wait("other", {"other": 4, "third": 9}) == pytest.approx(1.5)
        with pytest.raises(FullError) as error:
            batcher.check(1, "hostile")
        assert error.value.retry_after == 1
        batcher.check(1, "other")
        scorer.go.set()
        return await asyncio.gather(*waiting)

    run(work, wait=0.0, max_wait=1.5)


def test_beside_a_long_request_a_single_pair_of_the_same_client_is_taken_and_another_is_not() -> (
    None
):
    async def work(batcher: Batcher, scorer: Scorer) -> Any:
        batcher._spent, batcher._done = 1.0, 10_000.0
        waiting = [await behind_a_batch(batcher, scorer)]
        waiting.append(asyncio.ensure_future(batcher.predict(slow(*range(10)), "a")))
        await asyncio.sleep(0)
        with pytest.raises(FullError):
            await batcher.predict(slow(*range(20, 25)), "a")
        waiting.append(asyncio.ensure_future(batcher.predict(rows(50), "a")))
        await asyncio.sleep(0)
        scorer.go.set()
        return await asyncio.gather(*waiting)

    scorer, _ = run(work, wait=0.0, max_wait=1.5)
    assert scorer.batches[1][:2] == [0, 50]


def test_who_has_gone_leaves_no_turn_behind() -> None:
    async def work(batcher: Batcher, scorer: Scorer) -> Any:
        held = await behind_a_batch(batcher, scorer)
        gone = [asyncio.ensure_future(batcher.predict(slow(*range(5)), name)) for name in "ab"]
        await asyncio.sleep(0)
        for one in gone:
            one.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        assert batcher.waiting == 0
        assert batcher.expected_wait("c") == batcher.expected_wait("a")
        scorer.go.set()
        return await asyncio.gather(held, batcher.predict(rows(7), "c"))

    scorer, _ = run(work, wait=0.0)
    assert scorer.batches == [[900], [7]]


def test_a_text_of_many_pieces_counts_as_many_pairs() -> None:
    pieces = {"long": 20, "short": 1}

    async def work(batcher: Batcher, scorer: Scorer) -> Any:
        scorer.go.clear()
        first = asyncio.create_task(batcher.predict([{"n": 0, "text": "short"}], "b"))
        await asyncio.sleep(0.1)
        long = [{"n": number, "text": f"long{number}"} for number in range(1, 4)]
        tasks = [asyncio.create_task(batcher.predict([row], "a")) for row in long]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(batcher.predict([{"n": 9, "text": "short"}], "b")))
        await asyncio.sleep(0)
        scorer.go.set()
        await asyncio.gather(first, *tasks)

    scorer, _ = run(work, wait=0, pieces=lambda text: pieces[text.rstrip("0123456789")])
    assert scorer.batches == [[0], [1, 9], [2], [3]]
