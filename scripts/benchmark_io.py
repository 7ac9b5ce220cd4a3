"""Cost of reading one window of a large image: memory above the idle process, and time against the bare library call.

Writes synthetic 16-bit images (20,000 x 20,000 pixels, 800 MB each) into a temporary folder. For each image, in a new
process, it measures the peak memory of opening it and reading one 512 x 512 window, above that of the process after
reading a small image of the same kind; and the time of opening and reading, window by window in turn with tifffile or
zarr called directly.

    python scripts/benchmark_io.py [--side 20000] [--windows 30] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
import zarr

from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import create_writer

WINDOW = 512
SMALL = 1024
TIFF_LAYOUTS: dict[str, dict[str, Any]] = {
    "tiled TIFF": {"tile": (512, 512)},
    "tiled TIFF, zlib": {"tile": (512, 512), "compression": "zlib"},
    "strip TIFF, 8 rows a strip, LZW": {"rowsperstrip": 8, "compression": "lzw"},
    "strip TIFF, one strip": {},
}
KINDS = [*TIFF_LAYOUTS, "OME-Zarr"]


def path_of(folder: Path, kind: str, side: int) -> Path:
    name = "".join(c if c.isalnum() else "_" for c in kind)
    return folder / f"{name}_{side}{'.ome.zarr' if kind == 'OME-Zarr' else '.tif'}"


def bands(side: int, rows: int) -> Iterator[np.ndarray]:
    """Yield the image from top to bottom: noise on a slope, as compressible as a camera's image."""
    noise = np.random.default_rng(0).normal(0, 20, (rows, side))
    for top in range(0, side, rows):
        band = noise + (top + np.arange(rows))[:, None] * (40000 / side) + 1000
        yield band[: side - top].astype(np.uint16)


def write(folder: Path, kind: str, side: int) -> None:
    path = path_of(folder, kind, side)
    if kind in ("OME-Zarr", "strip TIFF, one strip"):
        with create_writer(path, shape=(side, side), dtype="uint16", axes="YX", pixel_size={}) as writer:
            for i, band in enumerate(bands(side, 512)):
                writer.write(np.s_[i * 512 : i * 512 + len(band), :], band)
        return
    layout = TIFF_LAYOUTS[kind]

    def pieces() -> Iterator[np.ndarray | bytes]:
        for band in bands(side, layout["tile"][0] if "tile" in layout else layout["rowsperstrip"]):
            if "tile" not in layout:
                yield bytes(
                    imagecodecs.lzw_encode(band.tobytes())
                )  # tifffile takes strips one by one only when encoded
                continue
            for left in range(0, side, 512):
                tile = band[:, left : left + 512]
                yield np.pad(tile, [(0, 512 - tile.shape[0]), (0, 512 - tile.shape[1])])

    tifffile.imwrite(path, pieces(), shape=(side, side), dtype="uint16", **layout)


def ours(path: Path, window: tuple[slice, ...]) -> np.ndarray:
    with open_image(path) as image:
        return image.read(window)


def bare(path: Path, window: tuple[slice, ...]) -> np.ndarray:
    if path.suffix == ".zarr":
        return np.asarray(zarr.open_group(str(path), mode="r")["0"][window])
    store = tifffile.imread(path, aszarr=True)
    try:
        return np.asarray(zarr.open(store, mode="r")[window])
    finally:
        store.close()


def memory(field: str) -> float:
    """Return a memory figure of this process in MB, from /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def peak_over_idle(call: Callable[[], object]) -> float:
    """Return how far a call raises this process's peak memory above its current memory, in MB."""
    idle = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the current memory
    call()
    return memory("VmHWM") - idle


def measure(folder: Path, kind: str, side: int, windows: int) -> dict[str, float]:
    """Return the figures of one image; runs in a process of its own."""
    small, large = path_of(folder, kind, SMALL), path_of(folder, kind, side)
    ours(small, np.s_[100:200, 100:200])
    rng = np.random.default_rng(1)
    places = [tuple(slice(int(a), int(a) + WINDOW) for a in rng.integers(0, side - WINDOW, 2)) for _ in range(windows)]
    peak = peak_over_idle(lambda: ours(large, places[0]))
    bare(small, np.s_[100:200, 100:200])
    bare_peak = peak_over_idle(lambda: bare(large, places[1]))
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for i, place in enumerate(places):
        pair = [("ours", ours), ("bare", bare)]
        results = []
        for name, call in pair if i % 2 else reversed(pair):
            start = time.perf_counter()
            results.append(call(large, place))
            times[name].append(time.perf_counter() - start)
        if not np.array_equal(results[0], results[1]):
            raise AssertionError(f"{kind}: the two readings of {place} differ")
    our_time, bare_time = (statistics.median(times[name]) for name in ("ours", "bare"))
    with open_image(large) as image:
        image.read(places[0])
        start = time.perf_counter()
        for place in places:
            image.read(place)
        kept_open = (time.perf_counter() - start) / windows
    return {
        "MB": peak,
        "bare MB": bare_peak,
        "ms": 1e3 * our_time,
        "bare ms": 1e3 * bare_time,
        "ratio": our_time / bare_time,
        "open ms": 1e3 * kept_open,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=20000, help="pixels along Y and X")
    parser.add_argument("--windows", type=int, default=30, help="windows read for the times")
    parser.add_argument("--folder", type=Path, help="where to write the images (default: a temporary folder)")
    parser.add_argument("--measure", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.folder, options.measure, options.side, options.windows)))
        return
    print(
        f"one {WINDOW} x {WINDOW} window of {options.side} x {options.side} uint16; "
        f"times are medians of {options.windows} windows"
    )
    print(f"{'':34}{'MB':>7}{'bare MB':>9}{'ms':>8}{'bare ms':>9}{'ratio':>7}{'ms, kept open':>15}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for kind in KINDS:
            for side in (SMALL, options.side):
                write(Path(folder), kind, side)
            arguments = ["--side", str(options.side), "--windows", str(options.windows), "--folder", folder]
            command = [sys.executable, __file__, "--measure", kind, *arguments]
            line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            row = json.loads(line)
            print(
                f"{kind:34}{row['MB']:7.1f}{row['bare MB']:9.1f}{row['ms']:8.2f}{row['bare ms']:9.2f}"
                f"{row['ratio']:7.2f}{row['open ms']:15.2f}",
                flush=True,
            )
            for path in Path(folder).glob("*.tif"):
                path.unlink()


if __name__ == "__main__":
    main()
