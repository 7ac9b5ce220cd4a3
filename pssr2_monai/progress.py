"""Progress of long work: a bar on a terminal, otherwise a line in the log, and listeners."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

from tqdm import tqdm

logger = logging.getLogger(__name__)
COUNT_INTERVAL_S = 30.0
LOG_INTERVAL_S = 60.0  # between two lines in the log, without a terminal
BAR = "{desc}: {percentage:3.0f}% |{bar}| {n:.1f}/{total:.1f} MP, {rate_fmt}, {remaining} left{postfix}"
Listener = Callable[[str, float], None]
_listener: ContextVar[Callable[[tuple[str, float] | None], None]] = ContextVar("listener", default=lambda _: None)


@contextmanager
def listen_to_progress(listener: Listener) -> Iterator[None]:
    """Call a listener with the progress of the work that this thread does within the block.

    The arguments are a name and the share that is done, 0 to 1. Restoring reports the name and the share of an image,
    before each window; ``evaluate`` the name of an image and the share of all images; ``calibrate`` the share of its
    trials; ``train`` the share of the images that are read before it begins. An error that the listener raises ends the
    work; restoring keeps what is written, so that the same call resumes there, where the format allows it.

    Example:
        >>> from pssr2_monai import restore
        >>> shares = []
        >>> with listen_to_progress(lambda name, share: shares.append(share)):
        ...     paths = restore("scans/cell_0.tif", "restored.tif", "run/model.pt")
        >>> shares[-1]
        1.0
    """
    last = ("", 0.0)

    def listen(report: tuple[str, float] | None) -> None:
        nonlocal last
        last = report or last
        listener(*last)

    token = _listener.set(listen)
    try:
        yield
    finally:
        _listener.reset(token)


def report_progress(name: str, share: float) -> None:
    """Call the listener of this thread, if there is one."""
    _listener.get()((name, share))


@contextmanager
def part_of_progress(name: str, first: float, last: float) -> Iterator[None]:
    """Report what is reported within the block as a part of other work: its shares from ``first`` to ``last``."""
    whole = _listener.get()
    token = _listener.set(lambda report: whole(report and (name, first + (last - first) * report[1])))
    try:
        yield
    finally:
        _listener.reset(token)


def allow_stop() -> None:
    """Call the listener with what was reported last: it may stop the work here, between two parts of a step."""
    _listener.get()(None)


Item = TypeVar("Item", covariant=True)


class SizedIterable(Sized, Protocol[Item]):
    def __iter__(self) -> Iterator[Item]: ...


def counted(
    items: SizedIterable[Item],
    name: str,
    seconds: float = COUNT_INTERVAL_S,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Item]:
    """Yield items, report how many are done, and show it: by a bar on a terminal, otherwise by a line now and then."""
    logged = clock()
    bar = tqdm(items, desc=name, leave=False, delay=1.0, disable=not sys.stderr.isatty())
    for number, item in enumerate(bar):
        if bar.disable and (now := clock()) - logged >= seconds:
            logged = now
            logger.info("%s: %d of %d", name, number, len(items))
        report_progress(name, number / len(items))
        yield item


class Progress(AbstractContextManager["Progress"]):
    """Show the megapixels done, their rate, the time left and the blocks written, and report the share done.

    Windows since the last block count towards the share, but for no more than a block. The sizes are those of the whole
    image, in HR pixels; ``before`` are pixels that an interrupted run has written, which do not count for the rate.
    ``shown`` is whether to show a bar, or write lines to the log.
    """

    def __init__(self, name: str, pixels: int, blocks: int, windows: int, before: int = 0, shown: bool = True) -> None:
        self._name, self._pixels, self._blocks, self._windows = name, pixels, blocks, windows
        self._before, self._finished, self._since, self._shown = before, before, 0, shown
        self._share = before / pixels
        self._began = self._logged = time.monotonic()
        hidden = not (shown and sys.stderr.isatty())
        self._bar = tqdm(total=pixels / 1e6, initial=before / 1e6, desc=name, unit="MP", bar_format=BAR, disable=hidden)

    def update(self, pixels: int) -> None:
        """Count pixels of a block that was written."""
        self._finished += pixels
        self._since = 0
        self._bar.set_postfix_str(f"{self._done}/{self._blocks} blocks", refresh=False)
        if self._bar.disable and self._shown and time.monotonic() - self._logged > LOG_INTERVAL_S:
            self._logged = time.monotonic()
            logger.info("%s", self.line())
        self._report()

    def window(self) -> None:
        """Count a window, before it is restored: a listener may stop the work here."""
        self._report()
        self._since += 1

    def _report(self) -> None:
        written = self._finished / self._pixels
        share = max(self._share, written + min(self._since / self._windows, 1 / self._blocks, 1 - written))
        self._bar.update((share - self._share) * self._pixels / 1e6)
        self._share = share
        report_progress(self._name, share)

    @property
    def _done(self) -> int:
        return self._blocks * self._finished // self._pixels

    def line(self) -> str:
        rate = (self._finished - self._before) / max(time.monotonic() - self._began, 1e-9)
        left = (self._pixels - self._finished) / rate / 60 if rate else 0
        return (
            f"{self._name}: {self._finished / self._pixels:.0%}, {rate / 1e6:.2f} MP/s, {left:.0f} min left, "
            f"{self._done}/{self._blocks} blocks"
        )

    def __exit__(self, *_: object) -> None:
        self._bar.close()
