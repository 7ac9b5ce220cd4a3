"""What comes out lies on the scale of the scan, whatever its type, contrast, channels, hot pixels, padding or data bar.

A table of small trainings: pairs of equal and of unequal contrast, of 8-bit scans with 16-bit images, crappified,
calibrated, and sparse; scans of them, changed in ways that must not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pssr2_monai.calibration.calibrate import calibrate
from pssr2_monai.evaluation.evaluate import evaluate
from pssr2_monai.restoration.restore import restore
from pssr2_monai.training.preview import crappify_images
from pssr2_monai.training.train import train

pytestmark = pytest.mark.slow
SIDE, SCALE, BLACK, SPAN = 256, 2, 300, 6000
NETWORK = {"network_def#channels": [16, 32], "network_def#depth": 1}
NOISES = [
    {"_target_": "pssr2_monai.PoissonNoise", "intensity": [0.5, 1.5]},
    {"_target_": "pssr2_monai.GaussianNoise", "sigma": [0, 15]},
]
Array = np.ndarray


def scene(seed: int) -> Array:
    """Structure of three sizes, from 0 to 1."""
    rng = np.random.default_rng(seed)
    parts = [gaussian_filter(rng.normal(size=(SIDE, SIDE)), sigma) for sigma in (12, 4, 2)]
    coarse, edges, fine = (part / part.std() for part in parts)
    image = coarse + 0.7 * np.tanh(3 * edges) + 0.25 * fine
    return (image - image.min()) / np.ptp(image)


def sparse_scene(seed: int) -> Array:
    """Some bright cells on a wide background."""
    rng, image = np.random.default_rng(seed), np.zeros((SIDE, SIDE))
    for y, x in rng.integers(12, SIDE - 12, (10, 2)):
        image[y - 5 : y + 5, x - 5 : x + 5] += rng.uniform(0.5, 1)
    return gaussian_filter(image, 1.5)


def as_type(image: Array, dtype: str) -> Array:
    limits = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else None
    return image.astype(dtype) if limits is None else np.rint(image).clip(limits.min, limits.max).astype(dtype)


def scan_of(truth: Array, seed: int, dtype: str) -> Array:
    """The truth at half the size, with noise that grows with its brightness."""
    coarse = truth.reshape(SIDE // SCALE, SCALE, SIDE // SCALE, SCALE).mean(axis=(1, 3))
    low, span = coarse.min(), np.ptp(coarse)
    spread = 0.06 * span * np.sqrt(0.8 * (coarse - low) / span + 0.2)
    return as_type(coarse + np.random.default_rng(1000 + seed).normal(0, 1, coarse.shape) * spread, dtype)


def write_set(
    folder: Path, dtype: str = "uint16", lr_dtype: str = "uint16", gain: float = 1, offset: float = 0, make: Any = scene
) -> Path:
    for name in ("HR", "LR"):
        (folder / name).mkdir(parents=True)
    for number in range(6):
        truth = BLACK + SPAN * make(number)
        tifffile.imwrite(folder / "HR" / f"{number}.tif", as_type(truth, dtype))
        tifffile.imwrite(folder / "LR" / f"{number}.tif", scan_of(truth * gain + offset, number, lr_dtype))
    return folder


def weights_of(folder: Path, **options: Any) -> Path:
    settings = {"scale": SCALE, "tile": 64, "batch_size": 8, "epochs": 45, "num_workers": 0, "val_interval": 45}
    return train(folder / "HR", folder / "run", **NETWORK | settings | options)


def restored(weights: Path, scan: Array, folder: Path, precision: str = "auto", **metadata: Any) -> Array:
    tifffile.imwrite(folder / "scan.tif", scan, photometric="minisblack", **metadata)
    restore(folder / "scan.tif", folder / "restored.tif", weights, overwrite=True, precision=precision)
    return np.asarray(tifffile.imread(folder / "restored.tif"))


def psnr_db(image: Array, truth: Array) -> float:
    return peak_signal_noise_ratio(truth, image, data_range=np.ptp(np.percentile(truth, [0.1, 99.9])))


def check_values(image: Array, truth: Array) -> float:
    """Gain and offset against the truth are 1 and 0, nearly; returns the PSNR of the image."""
    image, span = image.astype(np.float64), np.ptp(np.percentile(truth, [0.1, 99.9]))
    gain, _ = np.polyfit(truth.ravel(), image.ravel(), 1)
    assert 0.95 < gain < 1.05
    dark = truth <= np.percentile(truth, 20)
    assert abs(image[dark].mean() - truth[dark].mean()) < 0.01 * span
    slope, level = np.polyfit(image.ravel(), truth.ravel(), 1)
    decibels = psnr_db(image, truth)
    assert decibels > psnr_db(slope * image + level, truth) - 0.5
    return decibels


@pytest.fixture(scope="module")
def of_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_set(tmp_path_factory.mktemp("pairs"))
    return weights_of(folder, lr_dir=str(folder / "LR"))


@pytest.mark.parametrize(
    ("dtype", "black", "span"),
    [("uint16", BLACK, SPAN), ("uint16", 100, 3900), ("float32", -0.3, 1.7), ("uint8", 10, 235), ("int16", -9000, 700)],
)
def test_scans_of_any_type_and_contrast(of_pairs: Path, dtype: str, black: float, span: float, tmp_path: Path) -> None:
    truth = black + span * scene(50)
    check_values(restored(of_pairs, scan_of(truth, 50, dtype), tmp_path), truth)


@pytest.mark.parametrize(
    ("dtype", "lr_dtype", "gain", "offset"),
    [("uint16", "uint16", 0.4, 800), ("uint16", "uint8", 1 / 28, 8), ("float32", "float32", 3, -500)],
)
def test_pairs_of_unequal_contrast(dtype: str, lr_dtype: str, gain: float, offset: float, tmp_path: Path) -> None:
    folder = write_set(tmp_path / "pairs", dtype, lr_dtype, gain, offset)
    weights = weights_of(folder, lr_dir=str(folder / "LR"))
    truth = (BLACK + SPAN * scene(50)) * gain + offset
    check_values(restored(weights, scan_of(truth, 50, lr_dtype), tmp_path), truth)


@pytest.mark.parametrize("make", [scene, sparse_scene])
def test_crappified_trainings(make: Callable[[int], Array], tmp_path: Path) -> None:
    crappifier = {"crappifier#noises": NOISES, "crappifier#downsample": "area"}  # as the scans are made
    weights = weights_of(write_set(tmp_path / "set", make=make), epochs=90, **crappifier)
    truth = BLACK + SPAN * make(50)
    check_values(restored(weights, scan_of(truth, 50, "uint16"), tmp_path), truth)


@pytest.mark.parametrize("make", [scene, sparse_scene])
def test_calibrated_trainings(make: Callable[[int], Array], tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", make=make)
    calibrate(folder / "LR", folder / "scope.json", hr=folder / "HR", calls=12)
    weights = weights_of(folder, preset=str(folder / "scope.json"))
    truth = BLACK + SPAN * make(50)
    check_values(restored(weights, scan_of(truth, 50, "uint16"), tmp_path), truth)


@pytest.mark.parametrize("share", [0.0005, 0.002, 0.01])
@pytest.mark.parametrize(
    ("dtype", "black", "span", "value"), [("uint16", BLACK, SPAN, 65535), ("uint16", BLACK, SPAN, 0)]
)
def test_hot_and_dead_pixels_cost_nothing(
    of_pairs: Path, share: float, dtype: str, black: float, span: float, value: int, tmp_path: Path
) -> None:
    truth = black + span * scene(50)
    scan = scan_of(truth, 50, dtype)
    clean = check_values(restored(of_pairs, scan, tmp_path), truth)
    scan[np.random.default_rng(7).random(scan.shape) < share] = value
    assert check_values(restored(of_pairs, scan, tmp_path), truth) > clean - 0.5


@pytest.mark.parametrize("black", [BLACK, 9000])
def test_padding_costs_nothing_and_stays(of_pairs: Path, black: float, tmp_path: Path) -> None:
    truth = black + SPAN * scene(50)
    scan = scan_of(truth, 50, "uint16")
    clean = check_values(restored(of_pairs, scan, tmp_path), truth)
    padded = np.zeros((SIDE, SIDE), np.uint16)
    padded[: SIDE // 2, : SIDE // 2] = scan
    result = restored(of_pairs, padded, tmp_path)
    assert check_values(result[:SIDE, :SIDE], truth) > clean - 0.5
    assert not result[SIDE:].any()


def test_each_channel_is_restored_as_if_alone(of_pairs: Path, tmp_path: Path) -> None:
    truths = [100 + 250 * factor * scene(50 + number) for number, factor in enumerate((1, 15, 200))]
    scans = np.stack([scan_of(truth, number, "uint16") for number, truth in enumerate(truths)])
    together = restored(of_pairs, scans, tmp_path, imagej=True, metadata={"axes": "CYX"})
    for scan, truth, channel in zip(scans, truths, together, strict=True):
        np.testing.assert_array_equal(restored(of_pairs, scan, tmp_path), channel)
        check_values(channel, truth)


@pytest.mark.parametrize(
    ("dtype", "gain", "offset"), [("float32", 0.013, -7), ("uint16", 4, 3000), ("float32", 1e4, 1)]
)
def test_restoring_follows_gain_and_offset(
    of_pairs: Path, dtype: str, gain: float, offset: float, tmp_path: Path
) -> None:
    scan = scan_of(BLACK + SPAN * scene(50), 50, "uint16")
    before = restored(of_pairs, scan.astype("float32"), tmp_path, "float32")
    after = restored(of_pairs, as_type(scan * float(gain) + offset, dtype), tmp_path, "float32")
    np.testing.assert_allclose(after, before * gain + offset, atol=max(1e-4 * SPAN * gain, 0.51 * (dtype == "uint16")))


def test_eight_bits_within_sixteen_come_out_the_same(of_pairs: Path, tmp_path: Path) -> None:
    scan = scan_of(10 + 235 * scene(50), 50, "uint8")
    eight = restored(of_pairs, scan, tmp_path, "float32")
    sixteen = restored(of_pairs, scan.astype(np.uint16) * 257, tmp_path, "float32")
    np.testing.assert_allclose(sixteen / 257, eight, atol=0.51)


@pytest.fixture(scope="module")
def of_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights_of(write_set(tmp_path_factory.mktemp("images")), epochs=2, **{"crappifier#noises": NOISES})


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_evaluate_equals_scikit_image_on_the_written_files(of_images: Path, dtype: str, tmp_path: Path) -> None:
    black, span = (10, 235) if dtype == "uint8" else (BLACK, SPAN)
    truth = as_type(black + span * scene(50), dtype)
    (tmp_path / "HR").mkdir()
    tifffile.imwrite(tmp_path / "HR" / "a.tif", truth)
    crappify_images(tmp_path / "HR", tmp_path / "LR", scale=SCALE, **{"crappifier#noises": NOISES})
    image = restored(of_images, tifffile.imread(tmp_path / "LR" / "a.tif"), tmp_path)
    low, high = (0, 255) if dtype == "uint8" else np.percentile(truth, [0.1, 99.9])
    decibels = peak_signal_noise_ratio(truth, image, data_range=high - low)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssim = structural_similarity(truth, image, data_range=high - low, **options)
    for lr in (None, tmp_path / "LR"):
        result = evaluate(tmp_path / "HR", of_images, tmp_path / "out", lr=lr)
        assert result["images"][0]["range"] == [pytest.approx((low, high))]
        assert result["mean"]["model"]["psnr"] == pytest.approx(decibels, abs=0.01)
        assert result["mean"]["model"]["ssim"] == pytest.approx(ssim, abs=1e-3)
