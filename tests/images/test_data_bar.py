"""Data bars of electron microscopes, drawn with Pillow: found by their content, and never in an image without one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from pssr2_monai.images.data_bar import find_data_bar
from pssr2_monai.images.image import open_image
from pssr2_monai.images.metadata import ImageMetadata, bar_note, bar_of_note
from pssr2_monai.images.writer import write_image


def scan(height: int = 300, width: int = 400, seed: int = 0) -> np.ndarray:
    """Noisy structure of 8 bits with dark and bright places."""
    random = np.random.default_rng(seed)
    smooth = gaussian_filter(random.normal(size=(height, width)), 4)
    return np.clip(128 + smooth * 500 + random.normal(0, 8, (height, width)), 0, 255).astype(np.uint8)


def bar(rows: int, width: int, back: int = 0, ink: int = 255, frame: bool = False) -> np.ndarray:
    """A strip with a line of text and a scale bar."""
    picture = Image.new("L", (width, rows), back)
    draw = ImageDraw.Draw(picture)
    draw.text((8, rows // 2 - 6), "HV 5.00 kV  WD 4.1 mm  HFW 2.07 um  det TLD", fill=ink)
    draw.line([(width - 90, rows // 2), (width - 20, rows // 2)], fill=ink, width=3)
    if frame:
        draw.rectangle([0, 0, width - 1, rows - 1], outline=ink)
    return np.asarray(picture)


def rows_of(image: np.ndarray) -> int:
    return find_data_bar(lambda first, last: image[first:last], len(image), 2 * (image.dtype == np.uint8))


@pytest.mark.parametrize("rows", [16, 28, 60])
@pytest.mark.parametrize(
    "options",
    [{}, {"back": 255, "ink": 0}, {"back": 90, "ink": 255}, {"frame": True}],
    ids=["black", "white", "grey", "frame"],
)
def test_bars_are_found(rows: int, options: dict[str, int]) -> None:
    assert rows_of(np.vstack([scan(), bar(rows, 400, **options)])) == rows


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_bars_of_other_types_are_found(dtype: type) -> None:
    assert rows_of(np.vstack([scan().astype(dtype) * 20, bar(28, 400).astype(dtype) * 257])) == 28


@pytest.mark.parametrize("quality", [75, 95])
@pytest.mark.parametrize("height", [304, 301])
@pytest.mark.parametrize("back", [0, 255])
def test_bars_in_a_jpeg_are_found(tmp_path: Path, height: int, quality: int, back: int) -> None:
    """Also where a block of 8 x 8 pixels has parts of both, in which each changes the other."""
    whole = np.vstack([scan(height), bar(35, 400, back, 255 - back)])
    Image.fromarray(whole).save(tmp_path / "a.jpg", quality=quality)
    with open_image(tmp_path / "a.jpg") as image:
        assert image.bar_rows in (35, 34, 33)  # not those that the image has changed too much
        assert image.shape[0] + image.bar_rows == height + 35


@pytest.mark.parametrize("quality", [50, 95])
def test_a_jpeg_without_a_bar_loses_no_row(tmp_path: Path, quality: int) -> None:
    for number, changed in enumerate((np.copy, padded, masked, sparse, burnt_in, striped)):
        Image.fromarray(changed(scan())).save(tmp_path / f"{number}.jpg", quality=quality)
        assert open_image(tmp_path / f"{number}.jpg").bar_rows == 0


def padded(image: np.ndarray) -> np.ndarray:
    """Black below, and a step in the edge, as of mosaics."""
    image = image.copy()
    image[-60:] = 0
    image[-90:, :150] = 0
    return image


def masked(image: np.ndarray) -> np.ndarray:
    """Bright cells on a background of exactly 0."""
    return np.where(gaussian_filter(image.astype(float), 5) > 135, image, 0).astype(np.uint8)


def sparse(image: np.ndarray) -> np.ndarray:
    """A few spots on 0, none in the last rows."""
    spots = np.where(np.random.default_rng(1).random(image.shape) > 0.999, 255, 0)
    spots[-10:] = 0
    return spots.astype(np.uint8)


def burnt_in(image: np.ndarray) -> np.ndarray:
    """Text and a scale bar upon the image."""
    image = image.copy()
    text = bar(30, 400)
    image[-30:][text > 128] = 255
    return image


def striped(image: np.ndarray) -> np.ndarray:
    return np.where(np.arange(image.shape[1]) // 10 % 2, 200, 50).astype(np.uint8) * np.ones((len(image), 1), np.uint8)


@pytest.mark.parametrize("changed", [np.copy, padded, masked, sparse, burnt_in, striped, np.zeros_like])
def test_an_image_without_a_bar_loses_no_row(changed: Callable[[np.ndarray], np.ndarray]) -> None:
    for seed in range(3):
        assert rows_of(changed(scan(seed=seed))) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_without_data_are_no_bar(value: float) -> None:
    image = scan().astype(np.float32)
    image[-40:] = value
    image[-20, ::2] = 0
    assert rows_of(image) == 0


def test_only_the_last_row_of_an_image_is_read() -> None:
    asked = []

    def read_rows(first: int, last: int) -> np.ndarray:
        asked.append((first, last))
        return scan()[first:last]

    find_data_bar(read_rows, 300)
    assert asked == [(299, 300)]


def test_an_image_is_read_without_its_bar_or_with_it(tmp_path: Path) -> None:
    whole = np.stack([np.vstack([scan(seed=seed), bar(28, 400)]) for seed in range(3)])
    tifffile.imwrite(tmp_path / "a.tif", whole, metadata={"axes": "ZYX"}, photometric="minisblack")
    with open_image(tmp_path / "a.tif") as image:
        assert (image.shape, image.full_shape, image.bar_rows) == ((3, 300, 400), (3, 328, 400), 28)
        np.testing.assert_array_equal(image.read(), whole[:, :300])
        np.testing.assert_array_equal(image.read(np.s_[:, -5:, :9]), whole[:, 295:300, :9])
        np.testing.assert_array_equal(image.read(np.s_[1:, 300:, :], with_bar=True), whole[1:, 300:])


def test_a_folder_of_slices_is_read_without_bars(tmp_path: Path) -> None:
    whole = np.stack([np.vstack([scan(seed=seed), bar(28, 400)]) for seed in range(3)])
    for i, plane in enumerate(whole):
        Image.fromarray(plane).save(tmp_path / f"{i}.png")
    with open_image(tmp_path) as image:
        assert (image.axes, image.shape, image.bar_rows) == ("ZYX", (3, 300, 400), 28)
        np.testing.assert_array_equal(image.read(), whole[:, :300])
        np.testing.assert_array_equal(image.read(with_bar=True), whole)


def test_a_bar_of_only_some_slices_is_none_of_the_stack(tmp_path: Path) -> None:
    planes = [scan(), np.vstack([scan(), bar(28, 400)])]
    for i, plane in enumerate(planes):
        Image.fromarray(plane).save(tmp_path / f"{i}.png")
    with open_image(tmp_path) as image:
        assert (image.shape, image.bar_rows) == ((2, 300, 400), 0)
        np.testing.assert_array_equal(image.read(), [plane[:300] for plane in planes])


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.ome.zarr", "a.png"])
def test_outputs_state_their_bar(tmp_path: Path, name: str) -> None:
    """Which may be found by its tags alone: here it has no text."""
    whole = np.vstack([scan(), np.full((40, 400), 9, np.uint8)])
    write_image(tmp_path / name, whole, axes="YX", pixel_size={}, metadata=ImageMetadata(bar_rows=40))
    with open_image(tmp_path / name) as image:
        assert (image.shape, image.bar_rows) == ((300, 400), 40)
        np.testing.assert_array_equal(image.read(with_bar=True), whole)
        write_image(tmp_path / f"again_{name}", image.read(), axes="YX", pixel_size={}, metadata=image.metadata)
    assert open_image(tmp_path / f"again_{name}").shape == (300, 400)


@pytest.mark.parametrize(
    ("note", "rows"), [("40 of 340 rows", 40), ("40 of 339 rows", 0), ("340 of 340 rows", 0), ("", 0)]
)
def test_notes_of_a_bar(note: str, rows: int) -> None:
    """A file that was cropped later does not fit its note."""
    assert bar_of_note(note, 340) == rows
    assert not rows or bar_note(rows, 340) == note


def test_a_bar_of_only_some_frames_is_none(tmp_path: Path) -> None:
    stack = np.stack([np.vstack([scan(), bar(28, 400)]), scan(328)])
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata={"axes": "ZYX"}, photometric="minisblack")
    assert open_image(tmp_path / "a.tif").shape == stack.shape


@pytest.mark.shared_data
def test_real_images_without_a_bar_lose_no_row(shared_data: Path) -> None:
    paths = [path for folder in ("em_hr", "em_pairs", "hr_crops") for path in (shared_data / folder).rglob("*.*")]
    images = [path for path in paths if path.suffix in (".tif", ".png")]
    assert len(images) > 300
    for path in images:
        with open_image(path) as image:
            assert image.bar_rows == 0, path
    with open_image(shared_data / "cases/sem_info_bar/with_bar.tif") as image:
        assert (image.bar_rows, image.read().max()) == (28, 20758)
        assert rows_of(image.read(with_bar=True)) == 28  # by content, too
