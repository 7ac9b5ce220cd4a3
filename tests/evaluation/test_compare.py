"""Samples of an evaluation against Pillow, scipy and the original image; interpolation against PIL and a formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pssr2_monai.crappify.crappify import Downsample
from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.compare import Comparison, compare, upscale
from pssr2_monai.evaluation.measures import ring_correlation
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.restoration.inferer import SeamlessInferer


@pytest.fixture(scope="module")
def pair(hr_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files of an HR image of 96 x 112 pixels and of its LR partner, a quarter as large."""
    hr, lr = hr_folder / "cell_0.png", tmp_path_factory.mktemp("lr") / "cell_0.png"
    image = Image.open(hr)
    image.resize((image.width // 4, image.height // 4), Image.BILINEAR).save(lr)
    return hr, lr


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


def test_a_sample_of_real_pairs_holds_their_pixels_and_what_becomes_of_them(
    pair: tuple[Path, Path], tiny_weights: Path
) -> None:
    network, record = load_weights(tiny_weights)
    with open_image(pair[0]) as hr, open_image(pair[1]) as lr:
        (sample,) = compare(hr, lr, network, record, SeamlessInferer())
    lr_image = Image.open(pair[1])
    np.testing.assert_allclose(sample.hr[0], np.asarray(Image.open(pair[0])) / 255, atol=1e-6)
    np.testing.assert_allclose(sample.lr[0], np.asarray(lr_image) / 255, atol=1e-6)
    bicubic = np.asarray(lr_image.resize((112, 96), Image.BICUBIC)) / 255
    assert np.abs(sample.restored["bicubic"][0] - bicubic).max() < 1.01 / 255  # PIL rounds between the axes, too
    output = network(torch.from_numpy(sample.lr[None])).detach().numpy()[0]
    np.testing.assert_allclose(sample.restored["model"], (output.clip(0, 1) * 255).round() / 255, atol=1.01 / 255)
    for planes in sample.restored.values():  # rounded to the file's grey levels
        np.testing.assert_allclose(planes * 255, (planes * 255).round(), atol=1e-3)
    assert not sample.deeper


def test_crappified_inputs_follow_from_the_seed_the_name_and_the_frame(tiny_weights: Path, tmp_path: Path) -> None:
    network, record = load_weights(tiny_weights)
    stack = np.full((3, 64, 64), 100, np.uint8)
    inputs = {}
    for name, seed in (("a", 0), ("a", 0), ("b", 0), ("a", 1)):
        path = tmp_path / f"{name}.tif"
        write_image(path, stack, axes="ZYX", pixel_size={}, overwrite=True)
        with open_image(path) as hr:
            lr = [sample.lr for sample in compare(hr, None, network, record, SeamlessInferer(), seed)]
        if (name, seed) in inputs:
            np.testing.assert_array_equal(lr, inputs[name, seed])
        inputs[name, seed] = np.array(lr)
    assert [lr.shape for lr in inputs.values()] == [(3, 1, 16, 16)] * 3
    frames = [frame for lr in inputs.values() for frame in lr[:, 0]]
    assert len({frame.tobytes() for frame in frames}) == 9
    assert np.mean(frames) == pytest.approx(100 / 255, abs=0.01)


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


def test_large_planes_are_divided_into_equal_blocks(pair: tuple[Path, Path], tiny_weights: Path) -> None:
    network, record = load_weights(tiny_weights)
    with open_image(pair[0]) as hr, open_image(pair[1]) as lr:
        (whole,) = compare(hr, lr, network, record, SeamlessInferer())
        blocks = list(compare(hr, lr, network, record, SeamlessInferer(), block_voxels=50**2, min_block_side=32))
    # 96 x 112 pixels in 2 x 3 blocks of at most 50 a side, in whole LR pixels.
    assert [block.hr.shape for block in blocks] == 2 * [(1, 48, 36), (1, 48, 36), (1, 48, 40)]
    for name in ("hr", "lr"):
        rows = [np.concatenate([getattr(block, name)[0] for block in blocks[n : n + 3]], axis=1) for n in (0, 3)]
        np.testing.assert_array_equal(np.concatenate(rows), getattr(whole, name)[0])
    for method in ("bicubic", "model"):
        rows = [np.concatenate([block.restored[method][0] for block in blocks[n : n + 3]], axis=1) for n in (0, 3)]
        off = np.abs(np.concatenate(rows) - whole.restored[method][0])
        assert np.median(off) < 1 / 255
