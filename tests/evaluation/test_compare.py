"""Interpolation against PIL's and against a formula."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pssr2_monai.crappify.crappify import Downsample
from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.compare import upscale


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
