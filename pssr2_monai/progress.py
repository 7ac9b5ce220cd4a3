"""How far some work is: a bar on a terminal or a line now and then, and whoever listens."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType

from tqdm import tqdm

logger = logging.getLogger(__name__)
SECONDS = 60.0
"""Between two lines where there is no terminal."""
BAR = "{desc}: {percentage:3.0f}% |{bar}| {n:.1f}/{total:.1f} MP, {rate_fmt}, {remaining} left{postfix}"
Listener = Callable[[str, float], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def progress_told(listener: Listener) -> Iterator[None]:
    """Whatever this thread does within tells a listener what it is at and the share of that which is done.

    Restoring tells the image's name and the share of it that is done, before each window; ``evaluate`` the image's
    name and the share of all images, ``calibrate`` the share of its trials. What the listener raises ends the
    work; of restoring, what is written is kept where it can be, and the same call goes on there.

    Example:
        >>> from pssr2_monai import restore
        >>> shares = []
        >>> with progress_told(lambda name, share: shares.append(share)):
        ...     paths = restore("scans/cell_0.tif", "restored.tif", "run/model.pt")
        >>> shares[-1]
        1.0
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(name: str, share: float) -> None:
    """Tells whoever listens."""
    listener = _listener.get()
    if listener is not None:
        listener(name, share)


class Progress:
    """Megapixels done, their rate, the time left and the blocks written.

    What the windows since the last block have done counts, too, but for no more than a block.

    Args:
        name: of the image.
        pixels: HR pixels in all.
        blocks: in all.
        windows: in all.
        before: pixels that an interrupted run has written already, which do not count for the rate.
        shown: whether anything is to be shown.
    """

    def __init__(self, name: str, pixels: int, blocks: int, windows: int, before: int = 0, shown: bool = True) -> None:
        self._name, self._pixels, self._blocks, self._windows = name, pixels, blocks, windows
        self._before, self._written, self._since, self._shown = before, 0, 0, shown
        self._share = before / pixels
        self._began = self._told = time.monotonic()
        hidden = not (shown and sys.stderr.isatty())
        self._bar = tqdm(total=pixels / 1e6, initial=before / 1e6, desc=name, unit="MP", bar_format=BAR, disable=hidden)

    def update(self, pixels: int) -> None:
        """So many more pixels are written."""
        self._written += pixels
        self._since = 0
        self._bar.set_postfix_str(f"{self._done}/{self._blocks} blocks", refresh=False)
        if self._bar.disable and self._shown and time.monotonic() - self._told > SECONDS:
            self._told = time.monotonic()
            logger.info("%s", self.line())
        self._tell()

    def window(self) -> None:
        """Another window is begun: tells the share, for whoever wants to stop the work before there is more of it."""
        self._tell()
        self._since += 1

    def _tell(self) -> None:
        written = (self._before + self._written) / self._pixels
        share = max(self._share, written + min(self._since / self._windows, 1 / self._blocks, 1 - written))
        self._bar.update((share - self._share) * self._pixels / 1e6)
        self._share = share
        tell(self._name, share)

    @property
    def _done(self) -> int:
        """Blocks done."""
        return self._blocks * (self._before + self._written) // self._pixels

    def line(self) -> str:
        """The state in words."""
        finished = self._before + self._written
        rate = self._written / max(time.monotonic() - self._began, 1e-9)
        left = (self._pixels - finished) / rate / 60 if rate else 0
        return (
            f"{self._name}: {finished / self._pixels:.0%}, {rate / 1e6:.2f} MP/s, {left:.0f} min left, "
            f"{self._done}/{self._blocks} blocks"
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
