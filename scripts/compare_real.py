r"""Weights against filters on real pairs, and on crappified images.

Real noisy images and their clean partners: fluorescence at scale 1 (Hagen 2021, right quarter; W2S, two fields) and
SEM at scale 2 (the fields of ``--fields``, registered first: their slow scans lie up to ten pixels aside). A network of
a larger scale than the pair's is averaged down to the truth's size. Filters see the image alone, before bicubic
interpolation at scale 2; only the best Gaussian filter is chosen with the truth, as an upper bound of what such a
filter may bring.

One scorer judges all: gain and offset of the least squared error to the truth, whose range from its 0.1 to its 99.9
percentile is the data range; PSNR and SSIM (Gaussian window) of scikit-image. Intervals (95 %, bootstrap) resample
images, or fields where there are several images of each.

    python scripts/compare_real.py ../shared/data --weights em_denoise runs/fluo/model.pt --json OUT/real.json
    python scripts/compare_real.py --crappified HELD_OUT_IMAGES --preset em_denoise --weights em_denoise

Other packages are installed apart, each in an environment of its own (their terms differ: bm3d is for non-commercial
use, tk_r_em is GPL-3), and named with the Python of it:

    python -m venv build/bm3d && build/bm3d/bin/pip install bm3d
    python -m venv build/tk_r_em && build/tk_r_em/bin/pip install tensorflow-cpu==2.15.1 tk_r_em
    python -m venv build/pssr && build/pssr/bin/pip install pssr==2.4.0
    python scripts/compare_real.py ../shared/data --peers bm3d=build/bm3d/bin/python tk_r_em=build/tk_r_em/bin/python
    python scripts/compare_real.py ../shared/data --peers pssr=build/pssr/bin/python --pssr-images IMAGES

bm3d gets the noise that the blind filter estimates, after the same transform. tk_r_em denoises electron micrographs
with each of its six networks. pssr is trained first, once for each scale, as `compare_restoring.py` does.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tifffile
from compare_calibration import read
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from skimage.transform import downscale_local_mean

from pssr2_monai.calibration.registration.alignment import align
from pssr2_monai.evaluation.compare import upscale
from pssr2_monai.evaluation.filters import denoise
from pssr2_monai.images.axes import factors
from pssr2_monai.images.files import list_images
from pssr2_monai.images.pictures import grey_window, labelled_panel
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.restoration.restore import restore
from pssr2_monai.training.preview import crappify_images

GROUPS = ("hagen", "w2s", "sem_real2x")
FLUORESCENCE = ("hagen", "w2s")
W2S_FIELDS = ("060", "080")
PEERS = {"bm3d": "bm3d", "tk_r_em": "tensorflow-cpu==2.15.1 tk_r_em", "pssr": "pssr==2.4.0"}  # what to install
EM_NETWORKS = ("sfr_lrsem", "sfr_hrsem", "sfr_lrstem", "sfr_hrstem", "sfr_lrtem", "sfr_hrtem")  # of tk_r_em
PSSR_TILE_PX = 192  # the smallest that its loss takes
SIGMAS_PX = np.geomspace(0.4, 6.0, 15)  # of the Gaussian filter that is chosen with the truth
CROPPED_SIDE_PX = 512  # of the middle of images that are crappified
RESAMPLES = 2000
BLIND = "blind filter"
COLUMNS = ("PSNR, dB", "SSIM", "dB above the blind filter", "SSIM above it")


@dataclass(frozen=True)
class Pair:
    group: str
    name: str
    unit: str  # images of one unit, such as a field, are resampled together
    lr: np.ndarray
    hr: np.ndarray
    scale: int

    @property
    def planes(self) -> np.ndarray:
        """The noisy image ``(1, Y, X)``."""
        return self.lr[None].astype(np.float32)

    def enlarged(self, planes: np.ndarray) -> np.ndarray:
        """An image ``(1, Y, X)`` of the noisy one's size, at the truth's size."""
        return upscale(planes, self.scale, "bicubic")[0]


Method = Callable[[Sequence[Pair]], dict[str, np.ndarray]]
"""From pairs to results by the pair's name, without those that the method does not suit."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder with fluo_pairs and em_pairs")
    parser.add_argument(
        "--weights", nargs="*", default=[], metavar="[NAME=]FILE", help="files, or names of bundled ones"
    )
    parser.add_argument("--orientations", type=int, default=1, help="that restoring averages: 1, 4 or 8")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS)
    parser.add_argument(
        "--fields", default="f(2[89]|3)", help="regular expression of the names of sem_real2x to compare"
    )
    parser.add_argument("--crappified", type=Path, metavar="FOLDER", help="also compare these images, crappified")
    parser.add_argument("--preset", default="em_denoise", help="preset whose crappifier draws their noise")
    parser.add_argument("--seed", type=int, default=0, help="of the crappifier")
    parser.add_argument(
        "--peers", nargs="*", default=[], metavar="NAME[=PYTHON]", help=f"other packages: {', '.join(PEERS)}"
    )
    parser.add_argument("--pssr-images", type=Path, metavar="FOLDER", help="8-bit images on which to train pssr")
    parser.add_argument("--pssr-minutes", type=float, default=12, help="of its training at each scale")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write truth and results side by side here")
    options = parser.parse_args()
    methods = {**filters(), **peers(options), **networks(options.weights, options.orientations)}
    pairs = list(real_pairs(options.data, options.groups, options.fields)) if options.data else []
    if options.crappified:
        pairs += crappified_pairs(options.crappified, options.preset, options.seed)
    if not pairs:
        raise SystemExit("nothing to compare: give the data folder, or --crappified FOLDER")
    results: dict[str, dict[str, np.ndarray]] = {}  # by method and the name of the pair
    for method, function in methods.items():
        start = cpu_seconds()
        results[method] = function(pairs)
        print(f"{method}: {cpu_seconds() - start:.0f} CPU s", file=sys.stderr, flush=True)
    truths = {pair.name: pair.hr for pair in pairs}
    scores = {
        method: {name: score(image, truths[name]) for name, image in images.items()}
        for method, images in results.items()
    }
    summary = {
        group: summarise([pair for pair in pairs if pair.group == group], scores)
        for group in dict.fromkeys(pair.group for pair in pairs)
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"mean": summary, "images": scores}, indent=2))
    if options.pictures:
        draw(pairs, results, options.pictures)
    print(table(pairs, scores, summary))


def real_pairs(data: Path, groups: Sequence[str], fields: str) -> Iterator[Pair]:
    """Yield the real pairs of the data folder that no bundled weights may be trained on."""
    if "hagen" in groups:
        for path in sorted((data / "fluo_pairs/hagen").glob("*_lowsnr.png")):
            lr, hr = (read(file) for file in (path, path.with_name(path.name.replace("lowsnr", "highsnr"))))
            right = np.s_[:, hr.shape[1] * 3 // 4 :]
            yield Pair("hagen", path.stem, path.stem, lr[right], hr[right], 1)
    if "w2s" in groups:
        for path in sorted(
            file for field in W2S_FIELDS for file in (data / "fluo_pairs/w2s_train").glob(f"{field}_*_avg1.png")
        ):
            yield Pair(
                "w2s", path.stem, path.stem, read(path), read(path.with_name(path.name.replace("avg1", "avg400"))), 1
            )
    if "sem_real2x" in groups:
        folder = data / "em_pairs/sem_real2x/train"
        for path in sorted(file for file in (folder / "LR").iterdir() if re.search(fields, file.name)):
            lr, hr = aligned(read(path), read(folder / "HR" / path.name), 2)
            yield Pair("sem_real2x", path.stem, path.stem.split("_")[0], lr, hr, 2)


def aligned(lr: np.ndarray, hr: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """The common part of both images, HR resampled to the places of LR."""
    alignment = align(lr, hr, scale, "shift")
    return lr[alignment.window.slices()], alignment.resampled(hr, alignment.window)


def crappified_pairs(folder: Path, preset: str, seed: int) -> Iterator[Pair]:
    """Yield the middles of images with what a preset's crappifier makes of them."""
    with tempfile.TemporaryDirectory() as made:
        for path in list_images(folder):
            hr = middle(read(path))
            source = Path(made, "hr", f"{path.stem}.tif")
            source.parent.mkdir(exist_ok=True)
            tifffile.imwrite(source, hr)
            lr = tifffile.imread(crappify_images(source, Path(made, f"{path.stem}.tif"), preset=preset, seed=seed)[0])
            scale = hr.shape[0] // lr.shape[0]
            hr = hr[: lr.shape[0] * scale, : lr.shape[1] * scale]
            yield Pair(f"crappified by {preset}", path.stem, path.stem, lr, hr, scale)


def middle(image: np.ndarray) -> np.ndarray:
    """The middle of the image's middle plane."""
    plane = image[len(image) // 2] if image.ndim == 3 else image
    top, left = (max(0, (length - CROPPED_SIDE_PX) // 2) for length in plane.shape)
    return plane[top : top + CROPPED_SIDE_PX, left : left + CROPPED_SIDE_PX]


def filters() -> dict[str, Method]:
    """What learns nothing."""
    return {
        "noisy": lambda pairs: {pair.name: pair.enlarged(pair.planes) for pair in pairs},
        "best Gaussian (chosen with the truth)": lambda pairs: {pair.name: best_gaussian(pair) for pair in pairs},
        BLIND: lambda pairs: {pair.name: pair.enlarged(denoise(pair.planes)) for pair in pairs},
    }


def best_gaussian(pair: Pair) -> np.ndarray:
    noisy = pair.enlarged(pair.planes)
    trials = [gaussian_filter(noisy, sigma) for sigma in SIGMAS_PX]
    return max(trials, key=lambda trial: score(trial, pair.hr)[0])


def peers(options: argparse.Namespace) -> dict[str, Method]:
    """The methods of other packages, each of which must be importable by the Python that is named for it."""
    methods: dict[str, Method] = {}
    for words in options.peers:
        name, _, python = words.partition("=")
        if name not in PEERS:
            raise SystemExit(f"--peers: {name!r} is unknown; use {', '.join(PEERS)}")
        python = python or sys.executable
        run = subprocess.run([python, "-c", f"import {name}"], capture_output=True, text=True, check=False)
        if run.returncode:
            reason = run.stderr.strip().splitlines()[-1:]
            raise SystemExit(
                f"--peers: {python} cannot import {name} ({' '.join(reason)}); install it apart: python -m venv "
                f"build/{name} && build/{name}/bin/pip install {PEERS[name]}, then --peers "
                f"{name}=build/{name}/bin/python"
            )
        if name == "bm3d":
            methods[name] = partial(with_bm3d, python=python)
        elif name == "tk_r_em":
            methods |= {
                f"tk_r_em {network}": partial(with_tk_r_em, python=python, network=network) for network in EM_NETWORKS
            }
        else:
            if options.pssr_images is None:
                raise SystemExit("--peers pssr: has no weights of its own; give images to train on with --pssr-images")
            methods[name] = partial(with_pssr, python=python, images=options.pssr_images, minutes=options.pssr_minutes)
    return methods


def with_bm3d(pairs: Sequence[Pair], python: str) -> dict[str, np.ndarray]:
    """Let bm3d denoise what the blind filter would: images whose noise has the variance 1."""
    stable: list[np.ndarray] = []

    def collected(plane: np.ndarray) -> np.ndarray:
        stable.append(plane)
        return plane

    for pair in pairs:
        denoise(pair.planes, collected)
    clean = iter(by_peer(stable, python, "bm3d"))
    return {pair.name: pair.enlarged(denoise(pair.planes, lambda plane: next(clean))) for pair in pairs}


def with_tk_r_em(pairs: Sequence[Pair], python: str, network: str) -> dict[str, np.ndarray]:
    """Denoise the electron micrographs."""
    suited = [pair for pair in pairs if pair.group not in FLUORESCENCE]
    results = by_peer([pair.lr for pair in suited], python, network)
    return {
        pair.name: pair.enlarged(clean[None].astype(np.float32)) for pair, clean in zip(suited, results, strict=True)
    }


def by_peer(images: Sequence[np.ndarray], python: str, method: str) -> list[np.ndarray]:
    """What ``real_peers.py`` makes of images ``(Y, X)`` in a process of another Python."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number:05}.npy") for number in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            np.save(path, image)
        subprocess.run([python, Path(__file__).with_name("real_peers.py"), method, folder], check=True)
        return [np.load(path) for path in paths]


def with_pssr(pairs: Sequence[Pair], python: str, images: Path, minutes: float) -> dict[str, np.ndarray]:
    """Train the original on images, crappified by its own noise, once for each scale, and restore with it."""
    restored = {}
    for scale in sorted({pair.scale for pair in pairs}):
        with tempfile.TemporaryDirectory() as folder:
            hr, lr, out = (Path(folder, name) for name in ("hr", "lr", "out"))
            hr.mkdir()
            lr.mkdir()
            for number, image in enumerate(map(read, list_images(images))):
                if image.dtype == np.uint8 and image.ndim == 2 and min(image.shape) >= PSSR_TILE_PX:
                    tifffile.imwrite(hr / f"{number}.tif", image)
            for number, pair in enumerate(pairs):
                if pair.scale == scale:
                    tifffile.imwrite(lr / f"{number:05}.tif", pair.lr)
            settings = {"minutes": minutes, "seed": 0, "scale": scale, "tile": PSSR_TILE_PX, "threads": 1}
            words = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
            script = Path(__file__).with_name("pssr_training.py")
            subprocess.run([python, script, hr, lr, out, *words], check=True)
            restored |= {pairs[int(path.stem)].name: tifffile.imread(path) for path in out.glob("*.tif")}
    return restored


def cpu_seconds() -> float:
    """Of this process and those that it ran."""
    return sum(os.times()[:4])


def networks(weights: Sequence[str], orientations: int = 1) -> dict[str, Method]:
    """The methods of weights, by their name or that of their file."""
    methods = {}
    for words in weights:
        name, _, path = words.rpartition("=")
        methods[name or path] = partial(restored, path=path, orientations=orientations)
    return methods


def restored(pairs: Sequence[Pair], path: str, orientations: int = 1) -> dict[str, np.ndarray]:
    """Restore the pairs of the weights' scale, or of a smaller one, to whose truth the result is averaged down."""
    _, record = load_weights(path)
    scale = factors(record.scale)[-1]
    images = {}
    for pair in pairs:
        if scale % pair.scale:
            continue
        with tempfile.TemporaryDirectory() as folder:
            tifffile.imwrite(Path(folder, "lr.tif"), pair.lr)
            files = restore(Path(folder, "lr.tif"), Path(folder, "sr.tif"), path, orientations=orientations)
            sr = tifffile.imread(files[0])
        images[pair.name] = downscale_local_mean(sr.astype(np.float32), (scale // pair.scale,) * 2)
    return images


def score(image: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return PSNR in dB and SSIM of an image ``(Y, X)`` after gain and offset."""
    target, span = truth.astype(np.float64), float(np.ptp(np.percentile(truth, [0.1, 99.9])))
    same = fitted(image, target)
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(peak_signal_noise_ratio(target, same, data_range=span)), float(
        structural_similarity(target, same, data_range=span, **window)
    )


def fitted(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    if np.ptp(image) == 0:
        return np.full(truth.shape, truth.mean())
    return np.polyval(np.polyfit(image.ravel().astype(np.float64), truth.ravel(), 1), image)


def summarise(
    pairs: Sequence[Pair], scores: Mapping[str, Mapping[str, tuple[float, float]]]
) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Return by method, for those that have all images, the mean of PSNR and SSIM and of their gain over the blind
    filter, image by image, each followed by the ends of its interval."""
    units = np.unique([pair.unit for pair in pairs], return_inverse=True)[1]
    draws = np.random.default_rng(0).multinomial(
        units.max() + 1, np.full(units.max() + 1, 1 / (units.max() + 1)), RESAMPLES
    )
    weights = draws[:, units]
    reference = np.array([scores[BLIND][pair.name] for pair in pairs])
    summary = {}
    for method, images in scores.items():
        if all(pair.name in images for pair in pairs):
            values = np.array([images[pair.name] for pair in pairs])
            values = np.concatenate([values, values - reference], axis=1)
            ends = np.percentile(weights @ values / weights.sum(axis=1, keepdims=True), [2.5, 97.5], axis=0)
            columns = zip(COLUMNS, values.mean(axis=0), *ends, strict=True)
            summary[method] = {name: [float(mean), float(low), float(high)] for name, mean, low, high in columns}
    return summary


def table(
    pairs: Sequence[Pair],
    scores: Mapping[str, Mapping[str, tuple[float, float]]],
    summary: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
) -> str:
    """The means with their intervals, and below the scores of each image."""
    rows = []
    for group, methods in summary.items():
        members = [pair for pair in pairs if pair.group == group]
        units = len({pair.unit for pair in members})
        of = f"{len(members)} images" + (f" of {units} fields" if units < len(members) else "")
        rows += [f"## {group}: {of}", "", f"| method | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
        for method, figures in methods.items():
            shown = zip(figures.values(), (2, 3, 2, 3), strict=True)
            cells = (
                f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})" for (mean, low, high), digits in shown
            )
            rows.append(f"| {method} | {' | '.join(cells)} |")
        rows += ["", f"| image | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
        for pair in members:
            cells = ("{:.2f} / {:.3f}".format(*scores[method][pair.name]) for method in methods)
            rows.append(f"| {pair.name} | {' | '.join(cells)} |")
        rows.append("")
    return "\n".join(rows)


def draw(pairs: Sequence[Pair], results: Mapping[str, Mapping[str, np.ndarray]], folder: Path) -> None:
    """Write the truth next to each result, fitted to it, in one grey window."""
    folder.mkdir(parents=True, exist_ok=True)
    for pair in pairs:
        columns = {
            method: fitted(images[pair.name], pair.hr.astype(np.float64))
            for method, images in results.items()
            if pair.name in images
        }
        columns["truth"] = pair.hr.astype(np.float64)
        labelled_panel(columns, *grey_window(columns["truth"])).save(folder / f"{pair.name}.png")


if __name__ == "__main__":
    main()
