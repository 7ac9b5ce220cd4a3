"""How well images are registered: known maps, pairs that do not match, and real pairs.

    python scripts/benchmark_register.py --data ../shared/data [--cases 200] [--seed 0] [--json registration.json]

Each case is a window of up to 512 px of a real EM image (``em_hr``) and an LR image made from it, at scale 2 or 4, by
averaging a spline over the area of each LR pixel: shifted by 0.3 to 12 HR px, rotated by up to 2 degrees, scaled
by up to 2 %; then gamma 0.5 to 2, inverted in half of the cases, gain 0.5 to 1, an offset, Gaussian noise of
sigma 3 to 20 grey levels, and sigma 3 on the HR image. The error is the distance between the positions to which the
estimated and the true map take an LR pixel, averaged over the LR image. Pairs that do not match are the LR image of a
case and a window of the same size from another data set. Real pairs: ``em_pairs/sem_real2x`` (SEM, 64 px LR) and
``fluo_pairs`` (scale 1, one exposure and the mean of many), each also with the HR image of another field.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates
from tqdm import tqdm

from pssr2_monai.calibration.registration.alignment import MIN_SCORE, Alignment, align
from pssr2_monai.images.files import list_images
from pssr2_monai.images.image import open_image

SIDE = 512
SMALL = 400
TILE = 192
TARGET = 0.1


@dataclass(frozen=True)
class Case:
    """An LR and an HR image whose map is known."""

    source: str
    scale: int
    lr: np.ndarray
    hr: np.ndarray
    matrix: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """The result for one pair; errors in LR pixels."""

    group: str
    name: str
    right: bool
    score: float
    correlation: float
    shift: tuple[float, float]
    rotation: float
    ratio: float
    scale: int
    hr_side: int
    seconds: float
    error: float | None = None


def planes(folder: Path) -> dict[str, np.ndarray]:
    """Return every image of a folder of folders by data set and name; eight planes of each stack."""
    images = {}
    for data_set in sorted(path for path in folder.iterdir() if path.is_dir()):
        for path in list_images(data_set):
            with open_image(path) as image:
                pixels = image.read()
                if image.axes.endswith("C"):
                    pixels = pixels[..., 0]
            stack = pixels.reshape(-1, *pixels.shape[-2:])
            for number in np.unique(np.linspace(0, len(stack) - 1, 8).astype(int)):
                images[f"{data_set.name}/{path.name} {number}"] = stack[number]
    return images


def data_set_of(name: str) -> str:
    return name.split("/")[0]


def make_case(images: dict[str, np.ndarray], rng: np.random.Generator) -> Case:
    """Return a random case; all data sets are equally likely."""
    wanted = rng.choice(sorted({data_set_of(name) for name in images}))
    name = str(rng.choice([key for key in images if data_set_of(key) == wanted]))
    image, scale = images[name].astype(np.float64), int(rng.choice([2, 4]))
    margin = 14
    side = min(SIDE, int((min(image.shape) - 2 * margin) / 1.055)) // 4 * 4
    margin += math.ceil(side * 0.0275)
    corner = np.array([rng.integers(margin, whole - side - margin + 1) for whole in image.shape])
    hr = image[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
    direction, length = rng.uniform(0, 2 * math.pi), rng.uniform(0.3, 12) / scale
    turn, ratio = math.radians(rng.uniform(-2, 2)), rng.uniform(0.98, 1.02)
    linear = ratio * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    centre = (side / scale - 1) / 2
    shift = centre + length * np.array([math.sin(direction), math.cos(direction)]) - linear @ [centre, centre]
    parts = 2 * scale  # sampling points per LR pixel and axis
    line = (np.arange(side // scale * parts) + 0.5) / parts - 0.5
    places = np.tensordot(linear, np.stack(np.meshgrid(line, line, indexing="ij")), 1) + shift[:, None, None]
    fine = map_coordinates(image, (places + 0.5) * scale - 0.5 + corner[:, None, None], order=3, mode="reflect")
    clean = fine.reshape(side // scale, parts, side // scale, parts).mean((1, 3))
    lr = degrade(clean, rng)
    return Case(name, scale, lr, quantised(hr + rng.normal(0, 3, hr.shape)), np.column_stack([linear, shift]))


def degrade(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change the contrast and add noise."""
    low, high = np.percentile(clean, [0.1, 99.9])
    grey = np.clip((clean - low) / max(high - low, 1), 0, 1) ** math.exp(rng.uniform(math.log(0.5), math.log(2)))
    grey = 1 - grey if rng.random() < 0.5 else grey
    gain = rng.uniform(0.5, 1)
    return quantised(255 * (rng.uniform(0, 1 - gain) + gain * grey) + rng.normal(0, rng.uniform(3, 20), grey.shape))


def quantised(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def error_of(alignment: Alignment, true: np.ndarray) -> float:
    """Return the mean distance, in LR pixels, between the positions to which two maps take the LR pixels."""
    y, x = np.mgrid[: alignment.lr_size[0], : alignment.lr_size[1]]
    off = np.tensordot(alignment.matrix - true, np.stack([y, x, np.ones_like(y)]), 1)
    return float(np.hypot(*off).mean())


def measure(
    group: str, name: str, right: bool, lr: np.ndarray, hr: np.ndarray, scale: int, true: Any = None
) -> Outcome:
    """Align a pair, and compare with the true map where it is known."""
    start = time.perf_counter()
    alignment = align(lr, hr, scale)
    seconds = time.perf_counter() - start
    error = None if true is None else error_of(alignment, true)
    numbers = (alignment.score, alignment.correlation, alignment.shift, alignment.rotation, alignment.ratio)
    return Outcome(group, name, right, *numbers, scale, max(hr.shape), seconds, error)


def synthetic(data: Path, count: int, seed: int) -> Iterator[Outcome]:
    """Yield each case, and its LR image with a window of another data set."""
    images, rng = planes(data / "em_hr"), np.random.default_rng(seed)
    for _ in range(count):
        case = make_case(images, rng)
        yield measure("em_hr", case.source, True, case.lr, case.hr, case.scale, case.matrix)
        side = len(case.hr)
        others = [name for name in images if data_set_of(name) != data_set_of(case.source)]
        other = str(rng.choice([name for name in others if min(images[name].shape) >= side]))
        top, left = (int(rng.integers(0, whole - side + 1)) for whole in images[other].shape)
        wrong = images[other][top : top + side, left : left + side]
        yield measure("em_hr", f"{case.source} with {other}", False, case.lr, wrong, case.scale)


def real(data: Path, seed: int) -> Iterator[Outcome]:
    """Yield the real pairs, and their LR images with the HR image of another field."""
    rng = np.random.default_rng(seed)
    groups: dict[str, tuple[int, list[tuple[str, str, np.ndarray, np.ndarray]]]] = {}
    folder = data / "em_pairs" / "sem_real2x" / "train"
    sem = [
        (path.name, path.name[:3], read(path), read(folder / "HR" / path.name)) for path in list_images(folder / "LR")
    ]
    groups["sem_real2x"] = 2, sem
    for name, low, high in (("hagen", "_lowsnr", "_highsnr"), ("w2s_train", "_avg1", "_avg400")):
        tiles = []
        for path in list_images(data / "fluo_pairs" / name):
            if low + "." in path.name:
                lr, hr = read(path), read(path.with_name(path.name.replace(low, high)))
                for top in range(0, min(lr.shape[0], 3 * TILE) - TILE + 1, TILE):
                    place = np.s_[top : top + TILE, top : top + TILE]
                    tiles.append(
                        (
                            f"{path.name} {top}",
                            path.name[:3] if name == "w2s_train" else f"{path.name} {top}",
                            lr[place],
                            hr[place],
                        )
                    )
        groups[name] = 1, tiles
    for group, (scale, pairs) in groups.items():
        for name, field, lr, hr in pairs:
            yield measure(group, name, True, lr, hr, scale)
            others = [pair for pair in pairs if pair[1] != field]
            other = others[int(rng.integers(len(others)))]
            yield measure(group, f"{name} with {other[0]}", False, lr, other[3], scale)


def read(path: Path) -> np.ndarray:
    with open_image(path) as image:
        return image.read()


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def heading(*cells: str) -> list[str]:
    return [row(*cells), f"|{'---|' * len(cells)}"]


def accuracy(outcomes: Sequence[Outcome]) -> list[str]:
    """Return a row for each kind of case: errors in HR and LR px."""
    known = [outcome for outcome in outcomes if outcome.error is not None]
    kinds = {
        "all": known,
        "scale 2": [outcome for outcome in known if outcome.scale == 2],
        "scale 4": [outcome for outcome in known if outcome.scale == 4],
        f"HR {SMALL} px and more": [outcome for outcome in known if outcome.hr_side >= SMALL],
        f"HR below {SMALL} px": [outcome for outcome in known if outcome.hr_side < SMALL],
    }
    head = ("cases", "median", "p95", "max", "<= 0.1 HR px", "<= 0.1 LR px", "seconds")
    lines = heading("error in HR px", *head)
    for kind, chosen in kinds.items():
        if chosen:
            lr = np.array([outcome.error for outcome in chosen], dtype=float)
            hr = lr * [outcome.scale for outcome in chosen]
            spread = (f"{value:.3f}" for value in (np.median(hr), np.percentile(hr, 95), hr.max()))
            shares = (f"{(error <= TARGET).mean():.1%}" for error in (hr, lr))
            lines.append(
                row(kind, len(chosen), *spread, *shares, f"{np.median([outcome.seconds for outcome in chosen]):.2f}")
            )
    return lines


def separation(outcomes: Sequence[Outcome]) -> list[str]:
    """Return how the score separates right from wrong pairs, by group and overall."""
    head = ("right", "least", "p2", "median", "kept", "wrong", "median", "p98", "most", "rejected")
    lines = heading("score", *head)
    for group in [*dict.fromkeys(outcome.group for outcome in outcomes), "all"]:
        chosen = [outcome for outcome in outcomes if group in (outcome.group, "all")]
        right, wrong = (
            np.array([outcome.score for outcome in chosen if outcome.right == kind]) for kind in (True, False)
        )
        low = (f"{value:.1f}" for value in (right.min(), np.percentile(right, 2), np.median(right)))
        high = (f"{value:.1f}" for value in (np.median(wrong), np.percentile(wrong, 98), wrong.max()))
        kept, rejected = f"{(right >= MIN_SCORE).mean():.1%}", f"{(wrong < MIN_SCORE).mean():.1%}"
        lines.append(row(group, len(right), *low, kept, len(wrong), *high, rejected))
    area = np.mean([(a > wrong).mean() + (a == wrong).mean() / 2 for a in right])
    lines.append(f"area under the ROC curve {area:.4f}; kept and rejected at min_score {MIN_SCORE:g}")
    return lines


def shifts_of_real_pairs(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the shifts of the real pairs that passed."""
    head = ("kept", "median", "p90", "most", "|rotation| p90", "|ratio - 1| p90")
    lines = heading("shift in LR px", *head)
    for group in dict.fromkeys(outcome.group for outcome in outcomes if outcome.group != "em_hr"):
        chosen = [
            outcome for outcome in outcomes if outcome.group == group and outcome.right and outcome.score >= MIN_SCORE
        ]
        shifts = np.array([math.hypot(*outcome.shift) for outcome in chosen])
        spread = (f"{value:.2f}" for value in (np.median(shifts), np.percentile(shifts, 90), shifts.max()))
        turn = np.percentile([abs(outcome.rotation) for outcome in chosen], 90)
        size = np.percentile([abs(outcome.ratio - 1) for outcome in chosen], 90)
        lines.append(row(group, len(chosen), *spread, f"{turn:.3f}", f"{size:.4f}"))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with em_hr, em_pairs and fluo_pairs")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for every outcome")
    options = parser.parse_args()
    outcomes = list(tqdm(synthetic(options.data, options.cases, options.seed), total=2 * options.cases, desc="em_hr"))
    outcomes += list(tqdm(real(options.data, options.seed), desc="real pairs"))
    for table in (accuracy, separation, shifts_of_real_pairs):
        print("\n".join(table(outcomes)), end="\n\n")
    if options.json:
        settings = {"cases": options.cases, "seed": options.seed, "min_score": MIN_SCORE}
        result = {"settings": settings, "outcomes": [asdict(outcome) for outcome in outcomes]}
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
