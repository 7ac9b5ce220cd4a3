"""Reading ahead and writing behind: results in order, at the same time as other work, and errors where they belong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pssr2_monai.restoration.restore_image import ahead, behind


@pytest.mark.parametrize("depth", [1, 3])
def test_items_are_made_ahead_and_no_further(depth: int) -> None:
    begun: list[int] = []
    enough = threading.Semaphore(0)

    def make(item: int) -> int:
        begun.append(item)
        enough.release()
        return item * item

    with ThreadPoolExecutor(1) as executor:
        results = ahead(executor, make, range(6), depth)
        for number, result in enumerate(results):
            assert result == number * number
            for _ in range(min(depth, 5) + 1 if number == 0 else min(1, 5 - depth - number + 1)):
                assert enough.acquire(timeout=10), "the next is not begun while this one is used"
            assert begun == list(range(min(6, number + depth + 1)))


def test_an_item_is_finished_while_the_next_is_made_and_before_the_next_but_one() -> None:
    next_is_made, finished = threading.Event(), []

    def items() -> Iterator[int]:
        for number in range(4):
            if number == 1:
                next_is_made.set()
            assert all(earlier in finished for earlier in range(number - 1)), "an item may be changed while it is used"
            yield number

    def finish(item: int) -> list[str]:
        assert next_is_made.wait(10)
        finished.append(item)
        return [f"{item}a", f"{item}b"]

    with ThreadPoolExecutor(1) as executor:
        assert list(behind(executor, finish, items())) == [f"{number}{part}" for number in range(4) for part in "ab"]


def test_errors_of_either_side_are_raised_and_results_before_them_are_kept() -> None:
    def failing(item: int) -> list[int]:
        if item == 2:
            raise OSError("full")
        return [item]

    results: list[int] = []
    with pytest.raises(OSError, match="full"), ThreadPoolExecutor(1) as executor:
        results.extend(behind(executor, failing, range(5)))
    assert results == [0, 1]

    def stopped() -> Iterator[int]:
        yield 0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ThreadPoolExecutor(1) as executor:
        list(behind(executor, failing, stopped()))
    with pytest.raises(ZeroDivisionError), ThreadPoolExecutor(1) as executor:
        list(ahead(executor, lambda item: 1 // item, [1, 0]))
