"""Looking at what the crappifier makes of an image before training on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from pssr2_monai.errors import InputError
from pssr2_monai.images.writer import write_image
from pssr2_monai.training.preview import crappify_images, preview

NO_NOISE: dict[str, object] = {"crappifier#noises": []}


def test_a_preview_is_the_middle_of_the_image_crappified(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120)).astype(np.uint8)
    write_image(tmp_path / "cell.tif", image, axes="YX", pixel_size={})
    lr, hr = preview(tmp_path / "cell.tif", side=65, scale=4, **NO_NOISE)
    np.testing.assert_allclose(hr[0] * 255, image[13:77, 28:92], atol=1e-4)
    # Pillow rounds to grey levels along the way.
    pillow = Image.fromarray(image[13:77, 28:92]).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(lr[0] * 255, np.asarray(pillow), atol=1.0)
    noisy, _ = preview(tmp_path / "cell.tif", side=65, scale=4, seed=1)
    again, _ = preview(tmp_path / "cell.tif", side=65, scale=4, seed=1)
    other, _ = preview(tmp_path / "cell.tif", side=65, scale=4, seed=2)
    np.testing.assert_array_equal(noisy, again)
    # Poisson noise of intensity 0.8 to 1.2 on an image of mean 127: the difference of two draws has twice the variance.
    expected = np.sqrt(2 * lr.mean() / 255)
    assert np.std(noisy - other) == pytest.approx(expected, rel=0.3)


def test_a_preview_of_a_volume_has_the_frames_around_the_middle(tmp_path: Path) -> None:
    stack = np.arange(2 * 13 * 8 * 8).reshape(2, 13, 8, 8).astype(np.uint16)
    write_image(tmp_path / "stack.tif", stack, axes="TZYX", pixel_size={})
    lr, hr = preview(tmp_path / "stack.tif", preset="isotropic", **NO_NOISE, **{"intensity#mode": "dtype"})
    assert (lr.shape, hr.shape) == ((3, 8, 8), (12, 8, 8))
    # The frames are those of the second time point, which the middle frame belongs to.
    np.testing.assert_allclose(hr * 65535, stack[1, :12], rtol=1e-5)


def test_areas_without_data_stay_so_in_crappified_files(tmp_path: Path) -> None:
    scene = np.random.default_rng(1).normal(3000, 200, (66, 80))
    missing, padded = scene.astype("float32"), scene.astype("uint16")
    missing[:21] = np.nan
    padded[:, 50:] = 0
    (tmp_path / "lr").mkdir()
    for name, image in (("nan", missing), ("padded", padded)):
        write_image(tmp_path / f"{name}.tif", image, axes="YX", pixel_size={})
        crappify_images(tmp_path / f"{name}.tif", tmp_path / "lr" / f"{name}.tif", scale=2)
    lr = tifffile.imread(tmp_path / "lr" / "nan.tif")
    np.testing.assert_array_equal(np.isnan(lr), (np.arange(33) < 10)[:, None] & np.ones(40, bool))  # whole pixels
    lr = tifffile.imread(tmp_path / "lr" / "padded.tif")
    np.testing.assert_array_equal(lr == 0, np.ones((33, 1), bool) & (np.arange(40) >= 25))
    assert lr[:, :25].min() > 1500


def test_a_preview_refuses_what_a_training_would_refuse(hr_folder: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'scale'"):
        preview(hr_folder / "cell_0.png", scal=4)
    with pytest.raises(InputError, match="fewer than the scale"):
        preview(hr_folder / "cell_0.png", scale=100)
