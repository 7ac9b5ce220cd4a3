"""Whether a JPEG holds all pixels that its header announces: decoders fill what is missing, and it has no checksum.

The compressed data of a JPEG do not state their length. But what follows the last pixel of a scan is not decoded, and
so has no effect on the pixels: bytes that are added there show up where pixels are missing, and bytes that are
exchanged there do not show up where there are more pixels than the header announces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from random import Random

from pssr2_monai.errors import InputError

_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive, with Huffman codes
_PROGRESSIVE = 0xC2
_OTHER_FRAMES = {*range(0xC3, 0xD0)} - {0xC4, 0xC8, 0xCC}  # lossless, hierarchical or arithmetic: not checked
_RESTARTS, _END, _SCAN, _INTERVAL = range(0xD0, 0xD8), 0xD9, 0xDA, 0xDD
_FILLER = 16  # bytes that are exchanged; what is more by less than that is not noticed
_FILLERS = 4  # of which one at least shows up in a whole image
_COEFFICIENTS = 64  # of a block


@dataclass(frozen=True)
class _Scan:
    """A run of compressed data, and what the header before it says."""

    data: slice
    restarts: int
    interval: int  # blocks between two restarts; 0 for none
    components: tuple[int, ...]
    coefficients: tuple[int, int, int]  # first, last, and the lowest bit of them that it holds


@dataclass(frozen=True)
class _Frame:
    kind: int
    height: int
    width: int
    sampling: dict[int, tuple[int, int]]  # of each component, along X and Y

    def blocks(self, components: tuple[int, ...]) -> int:
        """How many units of blocks a scan of these components has."""
        most = [max(along) for along in zip(*self.sampling.values(), strict=True)]
        count = 1
        for axis, size in enumerate((self.width, self.height)):
            if len(components) == 1:
                size = -(-size * self.sampling[components[0]][axis] // most[axis])
                count *= -(-size // 8)
            else:
                count *= -(-size // (8 * most[axis]))
        return count


def check_scans(content: bytes, name: str, decode: Callable[[bytes], bytes]) -> None:
    """Check that a JPEG that can be decoded holds each pixel that its header announces, and no more.

    Args:
        content: of the file.
        name: of the file, for the message.
        decode: gives the pixels of such content.

    Raises:
        InputError: it was cut short and ended, or its header states another size than its pixels have.
    """
    pixels = decode(content)
    try:
        frame, scans = _parsed(content)
    except (LookupError, ValueError):  # not as usual, but it can be decoded
        return
    if frame is None:
        return
    cut = f"{name}: is cut short: decoders would fill the pixels that are missing; copy it again"
    size = f"{frame.width} x {frame.height}"
    other = f"{name}: its header states {size} pixels, but it holds more; the size is wrong, copy it again"
    for scan in scans:
        if scan.interval:
            needed = -(-frame.blocks(scan.components) // scan.interval) - 1
            if scan.restarts < needed:
                raise InputError(cut)
            if scan.restarts > needed + 1:  # one at the end is usual
                raise InputError(other)
    if frame.kind == _PROGRESSIVE and not _is_complete(frame, scans):
        raise InputError(cut)
    fillers = [bytes(Random(seed).choices(range(255), k=_FILLER)) for seed in range(_FILLERS)]

    def shows(parts: list[slice], filler: bytes) -> bool:
        try:
            return decode(_exchanged(content, parts, filler)) != pixels
        except OSError:
            return True

    if shows([slice(scan.data.stop, scan.data.stop) for scan in scans], b"".join(fillers)):
        raise InputError(cut)
    last = _last(content, scans[0].data)  # of a progressive JPEG the scan that has bits of every block
    if last.start > scans[0].data.start and not any(shows([last], filler) for filler in fillers):
        raise InputError(other)


def _is_complete(frame: _Frame, scans: list[_Scan]) -> bool:
    """Whether the scans of a progressive JPEG hold all bits of all coefficients."""
    lowest = {
        (component, number): scan.coefficients[2]
        for scan in scans
        for component, number in product(scan.components, range(scan.coefficients[0], scan.coefficients[1] + 1))
    }
    return all(lowest.get(place) == 0 for place in product(frame.sampling, range(_COEFFICIENTS)))


def _last(content: bytes, data: slice) -> slice:
    """The last bytes of a scan, without zeros with which it may be filled up."""
    stop = data.start + len(content[data].rstrip(b"\0"))
    start = max(data.start, stop - _FILLER)
    return slice(start, stop)


def _exchanged(content: bytes, parts: list[slice], filler: bytes) -> bytes:
    """The content with other bytes in place of some parts, as long as those or, for empty ones, added."""
    pieces, position = [], 0
    for part in parts:
        length = part.stop - part.start
        pieces += [content[position : part.start], filler[-length:]]
        position = part.stop
    return b"".join([*pieces, content[position:]])


def _parsed(content: bytes) -> tuple[_Frame | None, list[_Scan]]:
    """The frame and the scans up to the end marker; no frame for kinds of JPEG that are not checked."""
    frame: _Frame | None = None
    interval = 0
    scans: list[_Scan] = []
    for marker, start, stop in _segments(content):
        body = content[start:stop]
        if marker in _OTHER_FRAMES:
            return None, []
        if marker in _FRAMES:
            sampling = {body[at]: (body[at + 1] >> 4, body[at + 1] & 15) for at in range(6, 6 + 3 * body[5], 3)}
            height, width = (int.from_bytes(body[at : at + 2], "big") for at in (1, 3))
            frame = _Frame(marker, height, width, sampling)
        elif marker == _INTERVAL:
            interval = int.from_bytes(body[:2], "big")
        elif marker == _SCAN:
            data, restarts = _data(content, stop)
            first, last, bits = body[-3:]
            scans.append(_Scan(data, restarts, interval, tuple(body[1:-3:2]), (first, last, bits & 15)))
    return frame, scans


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Each marker that has a length, and where its body begins and ends."""
    position = 2
    while (position := content.find(b"\xff", position)) >= 0 and position + 4 <= len(content):
        marker = content[position + 1]
        if marker == _END:
            return
        if marker in (0, 1, 0xD8, 0xFF, *_RESTARTS):
            position += 1 if marker == 0xFF else 2
            continue
        stop = position + 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        yield marker, position + 4, stop
        position = stop


def _data(content: bytes, start: int) -> tuple[slice, int]:
    """The compressed data that begin at a place, and how many restarts are in them."""
    position, restarts = start, 0
    while (position := content.find(b"\xff", position)) >= 0:
        following = content[position + 1 : position + 2]
        if following and following[0] in _RESTARTS:
            restarts += 1
        elif following != b"\0":
            return slice(start, position), restarts
        position += 2
    return slice(start, len(content)), restarts
