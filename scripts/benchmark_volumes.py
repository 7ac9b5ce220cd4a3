"""Cost of restoring a volume larger than memory: peak memory, throughput, seams, kills, and a cluster's speed-up.

Makes OME-Zarr inputs of Z x SIDE x SIDE uint8 and restores each with a small network in a process of its own.
Throughput is compared with the bare network on windows in memory, before and after restoring, so that other load on the
machine affects both; windows are counted with their overlap, and those at the border of two columns twice. Steps across
the borders of windows, chunks and columns are compared with steps elsewhere at the same position of the network's
pooling grid. --kills restores the smallest volume while it is killed at random moments and compares all bytes; --dask
restores it on one and on two workers of one thread each, in turns, compared with the same workers running the bare
network.

    python scripts/benchmark_volumes.py --planes 6 64 --side 4096 --threads 2 [--folder DIR] [--json FILE]
    python scripts/benchmark_volumes.py --planes 2 --side 2048 --kills 10 --dask
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import create_writer
from pssr2_monai.machine import keep_memory
from pssr2_monai.networks import ResUNet
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights, save_atomically
from pssr2_monai.restoration.engines import WorkerNetwork, open_engine
from pssr2_monai.restoration.estimate import output_of
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.options import RestoreOptions
from pssr2_monai.restoration.plan import prepare
from pssr2_monai.restoration.restore import restore, restore_prepared

GRID = 32
BARE_WINDOWS = 20
TARGETS = {"peak GiB": 1.5, "of bare network": 0.9, "seams": 0.02, "speed-up": 1.7}


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def heading(*cells: str) -> str:
    return f"{row(*cells)}\n|{'---|' * len(cells)}"


def make_weights(path: Path, channels: list[int], scale: int) -> None:
    """Write a small network with random weights; its output does not matter here."""
    torch.manual_seed(0)
    arguments = {"in_channels": 1, "out_channels": 1, "channels": channels, "scale": scale, "depth": 1}
    network = ResUNet(**arguments)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.05)
    record = Record({"_target_": "ResUNet", **arguments}, scale)
    save_atomically({"model": network.state_dict(), "record": record.state_dict()}, path)


def make_volume(path: Path, planes: int, side: int) -> None:
    """Write texture at two sizes, shifted from plane to plane."""
    noise = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    texture = 60 * noise / 4 + sum(sigma * 40 * gaussian_filter(noise, sigma) for sigma in (1.5, 4))
    plane = (128 + texture).clip(0, 255).astype(np.uint8)
    with create_writer(path, shape=(planes, side, side), dtype="uint8", axes="ZYX", pixel_size={}) as writer:
        for z in range(planes):
            writer.write(np.s_[z : z + 1, :, :], np.roll(plane, (17 * z, 31 * z), (0, 1))[None])


def clocks() -> np.ndarray:
    """Return wall and CPU seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def bare_seconds(weights: Path, sides: tuple[int, int], windows: int = BARE_WINDOWS) -> np.ndarray:
    """Return wall and CPU seconds per window of the network alone, on windows in memory."""
    network, _ = load_weights(weights)
    inferer = SeamlessInferer()
    images = list(torch.rand(4, 1, 1, *sides))
    with torch.inference_mode():
        inferer.predicted(images[:1], network)
        began = clocks()
        for number in range(windows):
            inferer.predicted([images[number % len(images)]], network)
    return (clocks() - began) / windows


def sides_of(source: Path) -> tuple[int, int]:
    """Return the sides of a window along Y and X in LR pixels."""
    with open_image(source) as image:
        along, across = SeamlessInferer().axes(image.shape[-2:])
    return along.length, across.length


def measure(source: Path, target: Path, weights: Path) -> dict[str, float]:
    """Return the figures of one volume; runs in a process of its own, whose peak memory is that of restoring."""
    sides = sides_of(source)
    bare = [bare_seconds(weights, sides)]
    began = clocks()
    restore(source, target, weights)
    wall, cpu = clocks() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    bare.append(bare_seconds(weights, sides))
    _, record = load_weights(weights)
    with open_image(source) as image:
        output = output_of(image, target, record, SeamlessInferer())
    bare_wall, bare_cpu = output.windows * sum(bare) / 2
    return {
        "seconds": wall,
        "peak GiB": peak / 2**30,
        "HR MP/s": float(np.prod(output.shape)) / wall / 1e6,
        "of bare network": bare_wall / wall,
        "of bare network, CPU": bare_cpu / cpu,
        "bare after / before": bare[1][0] / bare[0][0],
        "seams": seams(source, target, record.scale),
    }


def seams(source: Path, target: Path, scale: int) -> float:
    """Return by how much the mean absolute step across borders differs from that elsewhere, for the worse axis."""
    with open_image(source) as lr, open_image(target) as restored:
        first = [slice(0, 1)] * (len(restored.shape) - 2)
        plane = restored.read([*first, slice(None), slice(None)]).reshape(restored.shape[-2:]).astype(np.float32)
        axis = SeamlessInferer().axes(lr.shape[-2:])[0]
    worst = 0.0
    for pixels in (plane, plane.T):
        steps = np.abs(np.diff(pixels, axis=0)).mean(axis=1)
        size = len(pixels)
        ends = {place * scale for start in axis.starts for place in (start, start + axis.window)}
        edges = {
            place * scale
            for start in axis.starts
            for place in (start + axis.shared // 4, start + axis.window - axis.shared // 4)
        }
        borders = {place for place in ends | edges | set(range(512, size, 512)) if GRID < place < size - GRID}
        # At the same position of the network's pooling grid, since steps depend on it.
        alike = {
            place
            for phase in {border % (GRID * scale) for border in borders}
            for place in range(phase, size, GRID * scale)
        }
        others = {place for place in alike - borders if GRID < place < size - GRID}
        at_borders, elsewhere = (steps[[place - 1 for place in sorted(places)]].mean() for places in (borders, others))
        worst = max(worst, abs(at_borders / elsewhere - 1))
    return float(worst)


def in_own_process(source: Path, target: Path, weights: Path) -> dict[str, float]:
    """Run ``measure`` in a process of its own."""
    command = [sys.executable, __file__, "--threads", str(torch.get_num_threads())]
    command += ["--measure", str(source), str(target), str(weights)]
    figures: dict[str, float] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    )
    shutil.rmtree(target)
    return figures


def kills(source: Path, folder: Path, weights: Path, times: int) -> dict[str, Any]:
    """Restore a volume in a process that is killed at random moments, and compare the bytes."""
    straight, target = folder / "straight" / "killed.ome.zarr", folder / "killed.ome.zarr"
    straight.parent.mkdir()
    began = time.perf_counter()
    restore(source, straight, weights)
    seconds = time.perf_counter() - began
    command = [
        sys.executable,
        "-c",
        "from pssr2_monai.cli.main import main; main()",
        "restore",
        str(source),
        str(target),
    ]
    command += ["--weights", str(weights)]
    journal, draw, done = target.with_name(target.name + ".journal"), random.Random(0), []
    while len(done) < times and not target.exists():
        noted = journal.stat().st_size if journal.exists() else 0
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Kill only after importing, which would otherwise be most of the moments.
        while running.poll() is None and not (journal.exists() and (noted == 0 or journal.stat().st_size > noted)):
            time.sleep(0.005)
        time.sleep(draw.uniform(0, seconds / times))
        running.kill()
        running.wait()
        done.append(journal.stat().st_size if journal.exists() else 0)
    subprocess.run(command, check=not target.exists(), capture_output=True)
    names = [sorted(str(path.relative_to(root)) for path in root.rglob("*")) for root in (straight, target)]
    same = names[0] == names[1] and all(
        (straight / name).is_dir() or (straight / name).read_bytes() == (target / name).read_bytes()
        for name in names[0]
    )
    shutil.rmtree(straight.parent)
    shutil.rmtree(target)
    return {"kills": len(done), "equal": same, "files": len(names[0])}


@contextmanager
def cluster(count: int) -> Iterator[Any]:
    from distributed import LocalCluster

    options = {"n_workers": count, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with LocalCluster(**options, silence_logs="CRITICAL") as local_cluster:
        yield local_cluster


def bare_of_cluster(cluster: Any, weights: Path, sides: tuple[int, int], windows: int) -> float:
    """Return the seconds in which a cluster's workers process ``windows`` windows, divided by their number."""
    from distributed import Client

    count = len(cluster.workers)
    network = WorkerNetwork.of(weights, "cpu")
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        client.run(network.load)  # as restoring does first
        began = time.perf_counter()
        client.gather([client.submit(bare_seconds, weights, sides, windows, pure=False) for _ in range(count)])
        return (time.perf_counter() - began) / count


def dask(source: Path, folder: Path, weights: Path, rounds: int = 1) -> dict[str, float]:
    """Return the seconds of one and of two workers, in turns, for restoring and for the network alone."""
    sides = sides_of(source)
    times: dict[str, list[float]] = {}
    with cluster(1) as one, cluster(2) as two:
        for workers in (one, two):
            bare_of_cluster(workers, weights, sides, 2)  # imports what workers need
        for _ in range(rounds):
            for name, workers in (("one", one), ("two", two)):
                target = folder / f"{name}.ome.zarr"
                began = time.perf_counter()
                options = RestoreOptions(scheduler=workers.scheduler_address)
                with open_engine(options, weights) as engine:
                    restore_prepared(prepare(source, target, weights, options), engine, shared_pixels=0)
                seconds = time.perf_counter() - began
                shutil.rmtree(target)
                times.setdefault(name, []).append(seconds)
                times.setdefault(f"{name}, bare", []).append(bare_of_cluster(workers, weights, sides, BARE_WINDOWS))
    figures = {name: sum(seconds) / len(seconds) for name, seconds in times.items()}
    return figures | {
        "speed-up": figures["one"] / figures["two"],
        "speed-up, bare": figures["one, bare"] / figures["two, bare"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planes", type=int, nargs="+", default=[6, 64], help="sizes along Z, smallest first")
    parser.add_argument("--side", type=int, default=4096, help="pixels along Y and X")
    parser.add_argument(
        "--channels", type=int, nargs="+", default=[16, 32, 64], help="channels of the ResUNet's stages"
    )
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument(
        "--kills", type=int, default=0, help="how often to kill the process that restores the smallest volume"
    )
    parser.add_argument("--dask", action="store_true", help="compare one worker with two, on the smallest volume")
    parser.add_argument("--threads", type=int, default=1, help="compute threads")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--folder", type=Path, help="where to write the volumes (default: a temporary folder)")
    parser.add_argument("--measure", type=Path, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_memory()  # as the command does
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    result: dict[str, Any] = {
        "settings": {name: getattr(options, name) for name in ("side", "threads", "channels", "scale")}
    }
    result["targets"] = TARGETS
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        weights = folder / "model.pt"
        make_weights(weights, options.channels, options.scale)
        for planes in options.planes:
            source = folder / f"in_{planes}.ome.zarr"
            make_volume(source, planes, options.side)
            figures = in_own_process(source, folder / "out.ome.zarr", weights)
            if planes == options.planes[0]:
                print(heading("planes", *figures))
            print(row(planes, *(f"{value:.3g}" for value in figures.values())), flush=True)
            result[f"{planes} planes"] = figures
            if planes != options.planes[0]:
                shutil.rmtree(source)
        smallest = folder / f"in_{options.planes[0]}.ome.zarr"
        parts = {"kills": lambda: kills(smallest, folder, weights, options.kills)} if options.kills else {}
        parts |= {"dask": lambda: dask(smallest, folder, weights)} if options.dask else {}
        for part, run in parts.items():
            result[part] = run()
            print(
                f"\n{heading(*result[part])}\n{row(*(f'{value:.4g}' for value in result[part].values()))}", flush=True
            )
    if options.json:
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
