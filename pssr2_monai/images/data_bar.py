"""The data bar that electron microscopes write under an image: a plain strip with text and a scale bar, no image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pssr2_monai.errors import InputError

LARGEST_SHARE = 0.3  # of the height, at most
LEAST_ROWS = 8
PLAIN_SHARE = 0.95  # of the pixels of a row without text that have the colour of the strip
TEXT_ROW_SHARE = 0.35  # of the pixels of a row with text that have it, at least
IMAGE_ROW_SHARE = 0.1  # of the pixels of an image row that have it by chance, at most
LEAST_EDGES = 16  # from the strip to a letter or back, along all rows
LEAST_CONTRAST = 0.25  # of text, in the range of the values of strip and image
JPEG_TOLERANCE = 16  # grey levels by which compression changes those of a strip next to an image
COPY_TOLERANCE = 2  # of 8-bit files that may have been such
NEIGHBOUR_ROWS = 32  # of the image, that must differ from the strip


def bar_of_all_frames(
    read: Callable[[Sequence[slice]], npt.NDArray[Any]], axes: str, shape: Sequence[int], tolerance: float = 0
) -> int:
    """The rows of a data bar that the first and the last frame of an image have.

    Args:
        read: returns the pixels of a region, one slice an axis.
        axes: of the image.
        shape: of the image.
        tolerance: see `find_data_bar`.
    """
    down = axes.index("Y")

    def rows_of(frame: slice) -> int:
        bounds = dict.fromkeys("TZ", frame) | {"C": slice(0, 1)}

        def read_rows(first: int, last: int) -> npt.NDArray[Any]:
            rows = read([slice(first, last) if axis == "Y" else bounds.get(axis, slice(None)) for axis in axes])
            return np.moveaxis(rows, down, 0).reshape(last - first, -1)

        return find_data_bar(read_rows, shape[down], tolerance)

    try:
        rows = rows_of(slice(0, 1))
        return rows if rows and rows == rows_of(slice(-1, None)) else 0
    except InputError:  # damaged pixels, which are reported when they are needed
        return 0


def find_data_bar(read_rows: Callable[[int, int], npt.NDArray[Any]], height: int, tolerance: float = 0) -> int:
    """The number of rows at the bottom of an image that are a data bar by their content; 0 where this is not certain.

    A bar begins with a row of one value over the whole width and ends with one, has text of strong contrast on the
    same value in between, and follows rows in which this value is rare. Padding has no text, and a scanned image no
    such rows. Of an image without a bar, only the last row is read.

    Args:
        read_rows: returns the rows from a first to before a last one, ``(rows, X)`` in the dtype of the file.
        height: of the image, in rows.
        tolerance: by which values of one colour may differ, in grey levels: those that JPEG adds.
    """
    largest = int(height * LARGEST_SHARE)
    if largest < LEAST_ROWS:
        return 0
    last = read_rows(height - 1, height)
    if not _plain(last.astype(np.float64), tolerance).all():
        return 0
    strip = read_rows(max(0, height - largest - NEIGHBOUR_ROWS), height).astype(np.float64)
    values, counts = np.unique(strip[-LEAST_ROWS:], return_counts=True)
    colour = float(values[counts.argmax()])
    share = (np.abs(strip - colour) <= tolerance).mean(axis=1)
    plain = _plain(strip, tolerance)
    top = len(strip)
    while top > 0 and (share[top - 1] >= TEXT_ROW_SHARE or plain[top - 1]):
        top -= 1
    while top < len(strip) and not plain[top]:
        top += 1
    rows = len(strip) - top
    above = share[max(0, top - NEIGHBOUR_ROWS) : top]
    if not LEAST_ROWS <= rows <= largest or above.mean() > IMAGE_ROW_SHARE or above[-1] > 2 * IMAGE_ROW_SHARE:
        return 0
    text = np.abs(strip[top:] - colour) > LEAST_CONTRAST * np.ptp(strip)
    edges = np.count_nonzero(text[:, 1:] != text[:, :-1])
    return rows if edges >= LEAST_EDGES else 0


def _plain(rows: npt.NDArray[Any], tolerance: float) -> npt.NDArray[np.bool_]:
    """Which rows have one value but for a few pixels."""
    with np.errstate(all="ignore"):  # pixels without data are neither
        middle = np.median(rows, axis=1, keepdims=True)
        return np.asarray((np.abs(rows - middle) <= tolerance).mean(axis=1) >= PLAIN_SHARE)
