"""Reading ahead of the network and writing behind it, each in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

__all__ = ["ahead", "behind"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], depth: int = 1
) -> Iterator[Result]:
    """``map`` that has computed, or is computing, so many results more than are asked for."""
    coming: deque[Future[Result]] = deque()
    for item in items:
        coming.append(executor.submit(function, item))
        if len(coming) > depth:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()


def behind(executor: Executor, function: Callable[[Item], Iterable[Result]], items: Iterable[Item]) -> Iterator[Result]:
    """The results of a function for one item after the other, while the next item is made.

    An item must not be changed until the next but one is asked for.
    """
    last: Future[list[Result]] | None = None
    for item in items:
        if last is not None:
            yield from last.result()
        last = executor.submit(lambda one: list(function(one)), item)
    if last is not None:
        yield from last.result()
