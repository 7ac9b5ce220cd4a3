"""How well structures painted into restored images are detected, and how well spreads predict errors.

    python scripts/benchmark_fidelity.py IMAGES... --weights run/model.pt [MORE.pt] --json fidelity.json

IMAGES are files or folders of HR images that the weights were not trained on. The bundle's default crappifier makes LR
images from them with fixed seeds; they are rounded to 8 bits and restored. Disks are painted into a copy of each
restored image, one per tile of 64 x 64 LR pixels, brighter or darker by a fraction of the brightness there. The area
under the ROC curve is reported per place (a painted place against the same place before) and per tile (the highest
score of a tile with a disk against that before), for the score that the package uses and for others that were tried.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.stats import rankdata

from pssr2_monai.crappify import PoissonNoise
from pssr2_monai.crappify.crappify import Crappify, Downsample
from pssr2_monai.crappify.noise import noise_curve, noise_range
from pssr2_monai.fidelity.consistency import SIGMAS, expectation, score_limit, smoothed_spreads, structure_scores
from pssr2_monai.fidelity.uncertainty import MeanAndSpread, load_ensemble
from pssr2_monai.restoration.inferer import SeamlessInferer

TILE = 64
MARGIN = 12
USED = "the package's"
INTENSITY = (0.8, 1.2)


@dataclass(frozen=True)
class Restored:
    """An LR image, its target, its restoration and the spread of that, in grey levels."""

    hr: np.ndarray
    lr: np.ndarray
    sr: np.ndarray
    spread: np.ndarray


def restored_images(paths: list[Path], weights: list[str], seeds: int) -> Iterator[Restored]:
    """Yield each image with each seed: restored by the first weights, and the spread over orientations and weights."""
    networks, record = load_ensemble(weights)
    scale = int(record.scale)  # type: ignore[arg-type]
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    inferer = SeamlessInferer(precision="float32")
    for seed in range(seeds):
        for number, file in enumerate(files):
            hr = np.asarray(Image.open(file).convert("L"), dtype=np.float32)[None]
            side = TILE * scale
            hr = hr[:, : hr.shape[1] // side * side, : hr.shape[2] // side * side]
            crappify = Crappify(scale, [PoissonNoise(intensity=INTENSITY)]).set_random_state(1000 * seed + number)
            lr = np.rint(np.asarray(crappify(hr / 255)) * 255)
            with torch.inference_mode():
                sr, spread = (
                    inferer(torch.from_numpy(lr / 255)[None].float(), network)[0].numpy()
                    for network in (networks[0], lambda x: MeanAndSpread(networks)(x)[:, 1])
                )
            yield Restored(hr[0], lr[0], np.clip(np.rint(sr[0] * 255), 0, 255), 255 * spread[0])


def score_maps(image: Restored, sr: np.ndarray, scale: int) -> dict[str, np.ndarray]:
    """Return every score that was tried, for each LR pixel."""
    noises = [PoissonNoise(intensity=INTENSITY)]
    seen = np.asarray(Downsample(scale)(sr[None].astype(np.float32) / 255))[0] * 255
    z = expectation(noise_curve(noises), noise_range(noises), [image.lr], [seen], 1.0).z_scores(image.lr, seen)
    spreads = smoothed_spreads([z])
    smooth = [np.abs(gaussian_filter(z, sigma)) for sigma in SIGMAS]
    wide = [np.abs(gaussian_filter(z, sigma) - gaussian_filter(z, 3 * sigma)) for sigma in SIGMAS]
    return {
        "single pixels": np.abs(z),
        "sums over squares, by the noise": np.max([np.abs(uniform_filter(z, w)) * w for w in (3, 5, 7)], axis=0),
        "smoothed, by the image's spread": np.max([a / b for a, b in zip(smooth, spreads, strict=True)], axis=0),
        "smoothed less wide, by the image's": np.max([scores / np.median(scores) for scores in wide], axis=0),
        USED: np.abs(structure_scores(z, spreads)[0]),
    }


def painted(sr: np.ndarray, places: np.ndarray, side: float, share: float, signs: np.ndarray) -> np.ndarray:
    """Return the SR with a disk at each place; ``side`` is its diameter in SR pixels."""
    image = sr.copy()
    y, x = np.mgrid[: sr.shape[0], : sr.shape[1]]
    for (top, left), sign in zip(places, signs, strict=True):
        disk = np.clip(side / 2 - np.hypot(y - top, x - left) + 0.5, 0, 1)
        image += sign * share * float(sr[disk > 0.5].mean()) * disk
    return np.clip(np.rint(image), 0, 255)


def area(with_: list[float], without: list[float]) -> float:
    """Area under the ROC curve (Mann and Whitney)."""
    ranks = rankdata(with_ + without)
    count = len(with_)
    return float((ranks[:count].sum() - count * (count + 1) / 2) / (count * len(without)))


def detection(images: list[Restored], scale: int, sizes: list[float], shares: list[float]) -> list[dict[str, Any]]:
    """Return one row of figures for each score, size and contrast."""
    before = [score_maps(image, image.sr, scale) for image in images]
    rows = []
    for size in sizes:
        for share in shares:
            random = np.random.default_rng(0)
            place: dict[str, list[list[float]]] = defaultdict(lambda: [[], []])
            tile: dict[str, list[list[float]]] = defaultdict(lambda: [[], []])
            for image, clean in zip(images, before, strict=True):
                corners = [(y, x) for y in range(0, image.lr.shape[0], TILE) for x in range(0, image.lr.shape[1], TILE)]
                lr_places = np.array(corners) + random.integers(MARGIN, TILE - MARGIN, (len(corners), 2))
                signs = random.choice([-1, 1], len(corners))
                sr = painted(image.sr, lr_places * scale + (scale - 1) / 2, size * scale, share, signs)
                maps = score_maps(image, sr, scale)
                for name in maps:
                    for (y, x), (top, left) in zip(lr_places, corners, strict=True):
                        near = (slice(y - 1, y + 2), slice(x - 1, x + 2))
                        whole = (slice(top, top + TILE), slice(left, left + TILE))
                        for number, scores in enumerate((maps[name], clean[name])):
                            place[name][number].append(float(scores[near].max()))
                            tile[name][number].append(float(scores[whole].max()))
            for name in place:
                row = {"score": name, "size": size, "contrast": share, "tiles": len(tile[name][0])}
                row |= {"area_place": area(*place[name]), "area_tile": area(*tile[name])}
                if name == USED:
                    limit = score_limit(TILE**2)
                    row |= {"detected": float(np.mean([score > limit for score in place[name][0]]))}
                rows.append(row)
    return rows


def false_alarms(images: list[Restored], scale: int) -> dict[str, Any]:
    """Return the share of tiles and images without disks that exceed the limit, and whether these alarms are false.

    An alarm is false only where the restored image is right. ``true_error`` is, for the highest score of each image
    with an alarm, the share of the image's places with a larger true error: restored minus HR, both downsampled and
    smoothed over 1.2 LR pixels.
    """
    score_images = [score_maps(image, image.sr, scale)[USED] for image in images]
    tiles = [
        float(scores[y : y + TILE, x : x + TILE].max())
        for scores in score_images
        for y in range(0, scores.shape[0], TILE)
        for x in range(0, scores.shape[1], TILE)
    ]
    errors = []
    for image, scores in zip(images, score_images, strict=True):
        if scores.max() > score_limit(scores.size):
            difference = Downsample(scale)((image.sr - image.hr)[None].astype(np.float32))
            error = np.abs(gaussian_filter(np.asarray(difference)[0], 1.2))
            y, x = np.unravel_index(int(scores.argmax()), scores.shape)
            near = error[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].max()
            errors.append(float((error > near).mean()))
    return {
        "images": len(score_images),
        "of_images": len(errors) / len(score_images),
        "true_error": errors,
        "tiles": len(tiles),
        "of_tiles": float(np.mean([score > score_limit(TILE**2) for score in tiles])),
    }


@dataclass(frozen=True)
class SpreadCalibration:
    """Spread and true error, in bins of equally many pixels by ascending spread."""

    spread: tuple[float, ...]  # root mean square of each bin
    error: tuple[float, ...]  # likewise
    factor: float  # overall root mean square error over that of the spread
    correlation: float  # rank correlation of the bins' spread and error: 1 where more spread always means more error


def spread_calibration(spread: np.ndarray, error: np.ndarray, bins: int = 10) -> SpreadCalibration:
    """Compare the spread with the true error.

    Args:
        spread: spread of each pixel, in an array of any shape.
        error: restored minus true image at the same pixels, in the same units.
        bins: number of bins.

    Raises:
        ValueError: fewer pixels than bins.
    """
    spreads, errors = np.ravel(spread).astype(np.float64), np.ravel(error).astype(np.float64)
    if spreads.size < bins or spreads.size != errors.size:
        raise ValueError(f"{spreads.size} spreads and {errors.size} errors for {bins} bins; give as many, more")
    parts = np.array_split(np.argsort(spreads, kind="stable"), bins)
    binned_spreads, binned_errors = ([_rms(values[part]) for part in parts] for values in (spreads, errors))
    ranks = np.argsort(np.argsort(binned_errors))
    correlation = float(np.corrcoef(np.arange(bins), ranks)[0, 1]) if bins > 1 else 1.0
    factor = _rms(errors) / _rms(spreads) if spreads.any() else math.inf
    return SpreadCalibration(tuple(binned_spreads), tuple(binned_errors), factor, correlation)


def _rms(values: np.ndarray) -> float:
    return math.sqrt(float(np.mean(values**2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--weights", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", type=float, default=[3, 5, 8])
    parser.add_argument("--contrasts", nargs="+", type=float, default=[0.05, 0.1, 0.2])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    images = list(restored_images(options.images, options.weights, options.seeds))
    scale = images[0].hr.shape[0] // images[0].lr.shape[0]
    rows = detection(images, scale, options.sizes, options.contrasts)
    alarms = false_alarms(images, scale)
    spread = np.stack([image.spread for image in images])
    calibration = spread_calibration(spread, np.stack([image.sr - image.hr for image in images]))
    for row in rows:
        detected = f", detected {row['detected']:.0%}" if "detected" in row else ""
        print(
            f"{row['size']:g} px, {row['contrast']:.0%}, {row['score']}: "
            f"{row['area_place']:.3f} per place, {row['area_tile']:.3f} per tile{detected}"
        )
    print("false alarms:", ", ".join(f"{name} {value}" for name, value in alarms.items()))
    for predicted, error in zip(calibration.spread, calibration.error, strict=True):
        print(f"spread {predicted:.2f}: error {error:.2f}")
    print(f"factor {calibration.factor:.1f}, rank correlation {calibration.correlation:.2f}")
    if options.json:
        figures = {"detection": rows, "false_alarms": alarms, "calibration": asdict(calibration)}
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
