"""Checking restored files: maps, figures and words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pssr2_monai.crappify import PoissonNoise
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.errors import InputError
from pssr2_monai.fidelity.check_fidelity import check_fidelity, map_path
from pssr2_monai.images.image import open_image
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks.record import Record

POISSON = {"_target_": "pssr2_monai.crappify.PoissonNoise", "intensity": [0.8, 1.2]}


def _record(scale: int | list[int] = 4, noises: Any = (POISSON,), **fields: Any) -> Record:
    crappifier = {"_target_": "pssr2_monai.crappify.crappify.Crappify", "scale": scale, "noises": list(noises)}
    return Record(network={}, scale=scale, crappifier=crappifier, **fields)


def _pair(shape: tuple[int, ...], scale: int | list[int] = 4, intensity: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """An LR image and the clean one that it was made of, both 8-bit."""
    noise = gaussian_filter(np.random.default_rng(0).normal(size=shape), [2] * (len(shape) - 2) + [12, 12])
    hr = np.clip(120 + 40 * noise / noise.std(), 30, 220).round().astype(np.uint8)
    crappify = Crappify(scale, [PoissonNoise(intensity=intensity)]).set_random_state(0)
    image = (hr / 255).astype(np.float32)
    lr = np.asarray(crappify(image.reshape(-1, *shape[-2:]) if len(shape) == 2 else image))
    return np.rint(255 * lr.reshape(*lr.shape[-len(shape) :])).astype(np.uint8), hr


def _written(folder: Path, lr: np.ndarray, sr: np.ndarray, axes: str, suffix: str = ".tif") -> tuple[Path, Path]:
    source, restored = folder / f"cell{suffix}", folder / f"restored{suffix}"
    step = lr.shape[-1] / sr.shape[-1]
    write_image(source, lr, axes=axes, pixel_size={"Y": 0.016, "X": 0.016}, overwrite=True)
    write_image(restored, sr, axes=axes, pixel_size={"Y": 0.016 * step, "X": 0.016 * step}, overwrite=True)
    return source, restored


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".ome.zarr"])
def test_the_true_image_is_consistent_and_its_map_is_normal(suffix: str, tmp_path: Path) -> None:
    lr, hr = _pair((3, 480, 640))
    found = check_fidelity(*_written(tmp_path, lr, hr, "ZYX", suffix), _record())
    assert found.verdict.level == "consistent"
    assert found.map.name == f"restored_fidelity{suffix}"
    with open_image(found.map) as image:
        assert (image.shape, image.axes, image.dtype) == (lr.shape, "ZYX", np.dtype(np.float32))
        assert image.pixel_size == pytest.approx({"Y": 0.016, "X": 0.016})
        z = image.read()
    assert float(z.std()) == pytest.approx(found.figures.spread, abs=1e-4)
    assert found.figures.spread == pytest.approx(1, abs=0.06)
    assert found.figures.beyond_3 == pytest.approx(float((np.abs(z) > 3).mean()))
    assert abs(found.figures.kurtosis) < 0.2
    assert found.figures.distance < 0.02
    assert abs(found.figures.along_x) < 0.02
    assert abs(found.figures.along_y) < 0.02
    told = json.loads(found.summary.read_text())
    assert told["level"] == "consistent"
    assert told["pixels"] == lr.size


def test_the_map_is_the_difference_over_the_noise(tmp_path: Path) -> None:
    lr, hr = _pair((480, 640))
    found = check_fidelity(*_written(tmp_path, lr, hr, "YX"), _record())
    seen = np.asarray(Crappify(4)((hr / 255).astype(np.float32)[None]))[0] * 255.0
    expected = found.figures.gain * seen + np.mean(lr - found.figures.gain * seen)
    offset = float(np.mean(lr - found.figures.gain * seen))
    bright = np.maximum(expected, gaussian_filter(lr.astype(float), 1, mode="mirror", truncate=3))
    variance = (found.figures.gain * found.figures.strength) ** 2 * (bright - offset) / found.figures.gain
    spread = np.sqrt(variance + 1 / 12)
    with open_image(found.map) as image:
        np.testing.assert_allclose(image.read(), (expected - lr) / spread, atol=0.02)


def test_a_painted_structure_is_found_at_its_place(tmp_path: Path) -> None:
    lr, hr = _pair((3, 480, 640))
    painted = hr.copy()
    y, x = np.mgrid[:480, :640]
    disk = np.hypot(y - 301, x - 222) <= 10
    painted[1][disk] = np.clip(painted[1][disk] + 25.0, 0, 255)
    found = check_fidelity(*_written(tmp_path, lr, painted, "ZYX"), _record())
    assert found.verdict.level == "not in the data"
    assert found.figures.structures_in_all == 1
    worst = found.figures.structures[0]
    with open_image(found.structures) as image:
        scores = image.read()
        assert (scores.shape, image.pixel_size) == (lr.shape, pytest.approx({"Y": 0.016, "X": 0.016}))
    assert np.unravel_index(scores.argmax(), scores.shape) == (
        1,
        round((worst.y - 1.5) / 4),
        round((worst.x - 1.5) / 4),
    )
    assert float(scores.max()) == pytest.approx(worst.score)
    assert worst.frame == 1
    assert worst.score > found.figures.limit
    assert (worst.y, worst.x) == (pytest.approx(301, abs=6), pytest.approx(222, abs=6))
    assert "frame 1" in found.verdict.reasons[0]
    assert "too bright" in found.verdict.reasons[0]


def test_blocks_leave_no_trace(tmp_path: Path) -> None:
    lr, hr = _pair((400, 480))
    hr[200:220, 250:270] += 30
    files = _written(tmp_path, lr, hr, "YX")
    whole = check_fidelity(*files, _record())
    with open_image(whole.map) as image:
        z = image.read()
    parts = check_fidelity(*files, _record(), overwrite=True, block_side=32)
    with open_image(parts.map) as image:
        np.testing.assert_allclose(image.read(), z, atol=1e-5)
    assert [replace(structure, score=0.0) for structure in parts.figures.structures] == [
        replace(structure, score=0.0) for structure in whole.figures.structures
    ]
    assert parts.figures.structures


def test_a_volume_is_downsampled_along_z(tmp_path: Path) -> None:
    scale = [2, 2, 2]
    lr, hr = _pair((20, 128, 160), scale)
    found = check_fidelity(*_written(tmp_path, lr, hr, "ZYX"), _record(scale))
    assert lr.shape == (10, 64, 80)
    assert found.verdict.level == "consistent"
    assert found.figures.spread == pytest.approx(1, abs=0.06)


def test_another_noise_contrast_or_pixel_size_is_told(tmp_path: Path) -> None:
    lr, hr = _pair((480, 640), intensity=2.5)
    noisy = check_fidelity(*_written(tmp_path, lr, hr, "YX"), _record())
    assert noisy.verdict.level == "unlike the training"
    assert "Noise level: 2." in noisy.verdict.reasons[0]
    lr, hr = _pair((480, 640))
    larger = check_fidelity(*_written(tmp_path, lr, hr, "YX"), _record(pixel_size={"X": 0.002}), overwrite=True)
    assert larger.figures.pixel_size == pytest.approx(2)
    assert larger.verdict.reasons[0].startswith("Pixel size: 2.00 times")
    flat = (60 + hr / 2).astype(np.uint8)
    other = check_fidelity(*_written(tmp_path, lr, flat, "YX"), _record(), overwrite=True)
    assert other.figures.gain == pytest.approx(2, rel=0.05)
    assert "Contrast: the LR has " in " ".join(other.verdict.reasons)


def test_weights_of_real_pairs_measure_the_noise_in_the_image(tmp_path: Path) -> None:
    lr, hr = _pair((480, 640), intensity=1.5)
    record = Record(network={}, scale=4, intensity=IntensitySettings())
    found = check_fidelity(*_written(tmp_path, lr, hr, "YX"), record)
    assert found.verdict.level == "consistent"
    assert found.figures.strengths is None
    assert found.figures.spread == pytest.approx(1, abs=0.08)


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    lr, hr = _pair((480, 640))
    with pytest.raises(InputError, match=r"restored.tif: is YX 480 x 632, but cell.tif restored .* is YX 480 x 640"):
        check_fidelity(*_written(tmp_path, lr, hr[:, :632], "YX"), _record())


def test_names_of_maps() -> None:
    assert map_path(Path("a/cell.ome.tif"), "fidelity") == Path("a/cell_fidelity.ome.tif")
    assert map_path(Path("cell.v2.tif"), "fidelity") == Path("cell.v2_fidelity.tif")
    assert map_path(Path("cell.png"), "fidelity") == Path("cell_fidelity.tif")
    assert map_path(Path("cell.ome.zarr"), "x") == Path("cell_x.ome.zarr")
