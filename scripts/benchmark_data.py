"""Cost of crappifying: 512 px HR images to 4x LR with Poisson noise, in HR megapixels per CPU second.

    python scripts/benchmark_data.py --rounds 9 --json data.json

Rivals: the training samples of this package, through every transform of the bundle's training config (tiles from sheets
in memory, flips, rotation, crappifier, conversion); the same crappifier on a batch on the device; and the
samples of pssr 2.4.0: ``SlidingDataset`` (sheets in memory) and ``ImageDataset`` (files read each time). A ratio is
taken within a round; its spread is the least and greatest value.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from turns import add_options, laps, pssr_python, ratios, report, take_turns

OURS, BATCHED = "pssr2_monai", "pssr2_monai, batched"
SLIDING, IMAGES = "pssr 2.4.0 SlidingDataset", "pssr 2.4.0 ImageDataset"
SIDE, SCALE, SHEET_SIDE, SHEETS = 512, 4, 1024, 4


def write_sheets(folder: Path) -> None:
    """Write structured 8-bit sheets for the rivals that tile, and their tiles for the one that does not."""
    import numpy as np
    import tifffile
    from scipy.ndimage import gaussian_filter

    for name in ("sheets", "tiles"):
        (folder / name).mkdir()
    for number in range(SHEETS):
        rough = np.random.default_rng(number).normal(size=(SHEET_SIDE, SHEET_SIDE))
        smooth = sum(gaussian_filter(rough, sigma) * sigma for sigma in (1, 3, 9))
        sheet = (128 + 40 * smooth / smooth.std()).clip(0, 255).round().astype(np.uint8)
        tifffile.imwrite(folder / "sheets" / f"sheet{number}.tif", sheet)
        for y in range(0, SHEET_SIDE, SIDE):
            for x in range(0, SHEET_SIDE, SIDE):
                tifffile.imwrite(folder / "tiles" / f"s{number}y{y}x{x}.tif", sheet[y : y + SIDE, x : x + SIDE])


def samples_of(rival: str, options: argparse.Namespace) -> tuple[Callable[[int], Any], int]:
    """Return a function from a number to a sample, and its number of images; imports are local, since rivals differ."""
    if rival in (SLIDING, IMAGES):
        from pssr.crappifiers import Poisson
        from pssr.data import ImageDataset, SlidingDataset

        with contextlib.redirect_stdout(sys.stderr):
            if rival == SLIDING:
                dataset = SlidingDataset(options.folder / "sheets", SIDE, SCALE, Poisson(), overlap=0, val_split=0)
            else:
                dataset = ImageDataset(options.folder / "tiles", SIDE, SCALE, Poisson(), val_split=0)
        return lambda number: dataset[number % len(dataset)], 1
    if rival == BATCHED:
        import torch

        from pssr2_monai.crappify import PoissonNoise
        from pssr2_monai.crappify.crappify import Crappify

        crappify = Crappify(SCALE, [PoissonNoise()]).set_random_state(0)
        hr = torch.rand(options.batch, 1, SIDE, SIDE, device=options.device)
        return lambda number: crappify(hr), options.batch
    from monai.bundle import ConfigParser

    from pssr2_monai.machine import keep_memory
    from pssr2_monai.training.config import config_files

    keep_memory()  # as the config does before it trains
    parser = ConfigParser()
    parser.read_config(config_files("train"))
    settings = {"hr_dir": str(options.folder / "sheets"), "tile": SIDE, "scale": SCALE, "val_fraction": 0}
    parser.update(settings | {"num_workers": 0, "crappifier#noises#0#intensity": 1})
    training = parser.get_parsed_content("train#dataset")
    return lambda number: training[number % len(training)], 1


def work(rival: str, options: argparse.Namespace) -> None:
    """Answer each line of standard input with the seconds that the images of a turn take, as a line of JSON."""
    import torch

    torch.set_num_threads(options.threads)
    sample, images = samples_of(rival, options)
    count = max(1, options.images // images)

    def turn(round_: int) -> None:
        for number in range(count):
            sample(round_ * count + number)
        if options.device != "cpu":
            torch.cuda.synchronize()

    turn(0)
    for round_, _ in enumerate(laps({"torch": torch.__version__, "images": count * images}), start=1):
        turn(round_)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Let the rivals take turns; return their HR megapixels per second, round by round, and this package's speed-up."""
    pythons = {OURS: sys.executable, BATCHED: sys.executable}
    if python := pssr_python(options):
        pythons |= {SLIDING: python, IMAGES: python}
    settings = {name: getattr(options, name) for name in ("images", "batch", "device")}
    arguments = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    with tempfile.TemporaryDirectory() as folder:
        write_sheets(Path(folder))
        rivals = take_turns(__file__, pythons, ["--folder", folder, *arguments], options.rounds, options)
    for rival in rivals.values():
        megapixels = rival["images"] * SIDE**2 / 1e6
        for clock in ("cpu", "wall"):
            rival[clock] = [megapixels / seconds for seconds in rival[clock]]
    for rival in rivals.values():
        for clock in ("cpu", "wall"):
            rival[f"{clock}_ratio"] = ratios(rivals[OURS][clock], rival[clock])
    return {"settings": settings | {"threads": options.threads, "rounds": options.rounds}, "rivals": rivals}


def table(result: dict[str, Any]) -> str:
    """The figures as text."""
    settings = result["settings"]
    lines = [
        f"{SIDE} px to {SIDE // SCALE} px, Poisson noise, {settings['threads']} threads, {settings['images']} images a "
        f"turn, {settings['rounds']} rounds; batches of {settings['batch']} on {settings['device']}",
        f"{'samples':<27}{'HR MP/CPU s':>12}{'HR MP/s':>9}{'ours is faster, CPU':>27}{'wall':>27}  torch",
    ]
    for name, rival in result["rivals"].items():
        cpu, wall = statistics.median(rival["cpu"]), statistics.median(rival["wall"])
        ratios = [
            "{median:.2f} ({min:.2f}..{max:.2f})".format(**rival[f"{clock}_ratio"]).rjust(27)
            for clock in ("cpu", "wall")
        ]
        lines.append(f"{name:<27}{cpu:12.1f}{wall:9.1f}{''.join(ratios)}  {rival['torch']}")
    return "\n".join(lines)


def main() -> None:
    """Read the options; measure, or serve as the worker of one rival."""
    parser = argparse.ArgumentParser(description="Cost of crappifying, compared with the original package.")
    parser.add_argument("--images", type=int, default=64, help="images per turn")
    parser.add_argument("--batch", type=int, default=16, help="images per batch on the device")
    add_options(parser, rounds=9)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if min(options.images, options.batch, options.rounds, options.threads) < 1:
        parser.error("--images, --batch, --rounds and --threads: give 1 or more")
    if options.worker:
        work(options.worker, options)
        return
    result = measure(options)
    report(result, table(result), options.json)


if __name__ == "__main__":
    main()
