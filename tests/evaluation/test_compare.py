"""Samples of an evaluation against Pillow, scipy and the original image; interpolation against PIL and a formula."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pssr2_monai.crappify.crappify import Downsample
from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.compare import Comparison, compare, scoring_scales, upscale
from pssr2_monai.evaluation.filters import denoise
from pssr2_monai.evaluation.fourier_ring_correlation import ring_correlation
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks.record import Record


@pytest.fixture(scope="module")
def files(hr_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of an HR image of 96 x 112 pixels, of its LR partner, a quarter as large, and of a restored image."""
    folder = tmp_path_factory.mktemp("compared")
    image = Image.open(hr_folder / "cell_0.png")
    image.resize((image.width // 4, image.height // 4), Image.BILINEAR).save(folder / "lr.png")
    image.point(lambda value: value // 2 + 40).save(folder / "sr.png")
    return {"hr": hr_folder / "cell_0.png", "lr": folder / "lr.png", "sr": folder / "sr.png"}


def _compared(files: dict[str, Path], record: Record, **options: Any) -> list[Comparison]:
    with ExitStack() as stack:
        images = {name: stack.enter_context(open_image(path)) for name, path in files.items()}
        return list(compare(**images, record=record, levels=scoring_scales(images["hr"]), **options))


@pytest.mark.parametrize(("mode", "pil"), [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)])
def test_interpolation_equals_pil(mode: str, pil: int) -> None:
    lr = np.random.default_rng(0).random((1, 13, 17), dtype=np.float32)
    expected = np.asarray(Image.fromarray(lr[0]).resize((68, 52), pil))
    np.testing.assert_allclose(upscale(lr, 4, mode)[0], expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("sampled", ["nearest", "area"])
def test_a_slope_comes_back_where_it_was(mode: str, sampled: str) -> None:
    z, y, x = np.mgrid[:32, :24, :12].astype(np.float32)
    slope = 2 * z + 3 * y + x
    lr = Downsample([4, 2, 1], mode=sampled)(slope)
    inside = (slice(8, -8), slice(4, -4), slice(None))
    np.testing.assert_allclose(upscale(lr, [4, 2, 1], mode, sampled)[inside], slope[inside], rtol=1e-5)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(InputError, match="'nearest' is unknown; use bilinear or bicubic"):
        upscale(np.zeros((1, 4, 4), np.float32), 2, "nearest")


def test_a_sample_holds_the_pixels_of_the_files(files: dict[str, Path]) -> None:
    (sample,) = _compared(files, Record({}, 4))
    pixels = {name: np.asarray(Image.open(path)) / 255 for name, path in files.items()}
    np.testing.assert_allclose(sample.hr[0], pixels["hr"], atol=1e-6)
    np.testing.assert_allclose(sample.lr[0], pixels["lr"], atol=1e-6)
    np.testing.assert_allclose(sample.restored["model"][0], pixels["sr"], atol=1e-6)
    bicubic = np.asarray(Image.open(files["lr"]).resize((112, 96), Image.BICUBIC)) / 255
    assert np.abs(sample.restored["bicubic"][0] - bicubic).max() < 1.01 / 255  # PIL rounds between the axes, too
    planes = sample.restored["bicubic"]  # rounded to the file's grey levels
    np.testing.assert_allclose(planes * 255, (planes * 255).round(), atol=1e-3)
    assert not sample.deeper


def test_the_filter_comes_before_bicubic_interpolation(files: dict[str, Path], tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).poisson(np.asarray(Image.open(files["lr"])) / 4) * 4
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / "lr.png")
    pixels = np.asarray(Image.open(tmp_path / "lr.png"), np.float32)
    (sample,) = _compared({**files, "lr": tmp_path / "lr.png"}, Record({}, 4))
    assert list(sample.restored) == ["bilinear", "bicubic", "filter", "model"]
    (denoised,) = denoise(pixels[None])
    expected = np.asarray(Image.fromarray(denoised).resize((112, 96), Image.BICUBIC)).round().clip(0, 255)
    np.testing.assert_allclose(sample.restored["filter"][0] * 255, expected, atol=1.01)  # halves may round either way
    (sample,) = _compared(files, Record({}, 4), blind_filter=False)
    assert list(sample.restored) == ["bilinear", "bicubic", "model"]


def test_each_frame_of_a_volume_is_filtered_by_itself(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lr = rng.poisson(np.array([20, 200, 900])[:, None, None], (3, 32, 32)).astype(np.uint16)
    for name, image in (("lr", lr), ("hr", lr), ("sr", lr)):
        write_image(tmp_path / f"{name}.tif", image, axes="ZYX", pixel_size={})
    files = {name: tmp_path / f"{name}.tif" for name in ("hr", "lr", "sr")}
    (sample,) = _compared(files, Record({}, [1, 1, 1], (2, 4)))
    expected = np.concatenate([denoise(plane[None].astype(np.float32)) for plane in lr]).round()
    low, high = np.percentile(lr, [0.1, 99.9])
    np.testing.assert_allclose(sample.restored["filter"] * (high - low) + low, expected, atol=0.01)


def test_scores_count_between_percentiles_of_hr_but_for_eight_bits(tmp_path: Path) -> None:
    image = np.stack([np.linspace(0, 200, 4096).reshape(64, 64), np.linspace(100, 4000, 4096).reshape(64, 64)])
    for dtype, expected in ((np.uint8, [(0, 255)] * 2), (np.uint16, np.percentile(image, [0.1, 99.9], axis=(1, 2)).T)):
        write_image(tmp_path / "a.tif", image.astype(dtype), axes="CYX", pixel_size={}, overwrite=True)
        with open_image(tmp_path / "a.tif") as hr:
            np.testing.assert_allclose([(scale.low, scale.high) for scale in scoring_scales(hr)], expected, atol=2)


def test_each_run_of_a_volume_is_a_sample(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = {"hr": (2, 7, 32, 32), "lr": (2, 3, 16, 16), "sr": (2, 6, 32, 32)}  # 7 is cut to 6
    pixels = {name: rng.integers(0, 255, size).astype(np.uint8) for name, size in sizes.items()}
    for name, image in pixels.items():
        write_image(tmp_path / f"{name}.tif", image, axes="TZYX", pixel_size={})
    files = {name: tmp_path / f"{name}.tif" for name in sizes}
    samples = _compared(files, Record({}, [2, 2, 2], (2, 4)))
    assert len(samples) == 2
    for number, sample in enumerate(samples):
        np.testing.assert_allclose(sample.hr * 255, pixels["hr"][number, :6], atol=1e-3)
        np.testing.assert_allclose(sample.restored["model"] * 255, pixels["sr"][number], atol=1e-3)
        assert sample.lr.shape == (3, 16, 16)
        assert sample.deeper


def test_correlations_are_taken_where_detail_was_restored() -> None:
    rng = np.random.default_rng(0)
    hr = rng.random((24, 20, 32), dtype=np.float32)
    restored = {"model": hr + rng.normal(0, 0.1, hr.shape).astype(np.float32)}
    planar = Comparison(hr[:, ::2, ::2], hr, restored)
    expected = ring_correlation(restored["model"], hr)
    np.testing.assert_array_equal(planar.correlations()["model"].correlation, expected.correlation)
    deeper = Comparison(hr[::2], hr, restored)
    assert deeper.deeper
    assert deeper.detail_planes(hr).shape == (32, 24, 20)
    cuts = [planes.transpose(2, 0, 1) for planes in (restored["model"], hr)]
    np.testing.assert_array_equal(deeper.correlations()["model"].correlation, ring_correlation(*cuts).correlation)
    thin = hr[:12]
    assert Comparison(thin[::2], thin, {"model": thin}).correlations() == {}


def test_large_planes_are_divided_into_equal_blocks(files: dict[str, Path]) -> None:
    (whole,) = _compared(files, Record({}, 4))
    blocks = _compared(files, Record({}, 4), block_voxels=50**2, min_block_side=32)
    # 96 x 112 pixels in 2 x 3 blocks of at most 50 a side, in whole LR pixels.
    assert [block.hr.shape for block in blocks] == 2 * [(1, 48, 36), (1, 48, 36), (1, 48, 40)]

    def joined(planes: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.concatenate([plane[0] for plane in planes[n : n + 3]], axis=1) for n in (0, 3)])

    for name in ("hr", "lr"):
        np.testing.assert_array_equal(joined([getattr(block, name) for block in blocks]), getattr(whole, name)[0])
    for method in ("bilinear", "bicubic", "model"):
        np.testing.assert_array_equal(joined([block.restored[method] for block in blocks]), whole.restored[method][0])


def test_blocks_are_filtered_without_seams(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:256, :256] / 256
    clean = 120 + 60 * np.sin(9 * rows) * np.cos(7 * columns)
    image = np.random.default_rng(0).normal(clean, 20).clip(0, 255).astype(np.uint8)
    for name in ("hr", "lr", "sr"):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    files = {name: tmp_path / f"{name}.png" for name in ("hr", "lr", "sr")}
    (whole,) = _compared(files, Record({}, 1))
    halves = [
        block.restored["filter"][0] for block in _compared(files, Record({}, 1), block_voxels=128**2, min_block_side=32)
    ]
    joined = np.concatenate([np.concatenate(halves[n : n + 2], axis=1) for n in (0, 2)])
    difference = np.abs(joined - whole.restored["filter"][0]) * 255
    # The noise is estimated for each block; at the borders of blocks the results differ no more than elsewhere.
    assert difference.mean() < 1
    assert difference[126:130].mean() < 2 * difference.mean() + 0.2
