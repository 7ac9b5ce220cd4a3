"""Pairs of an image and its target for the metrics."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter


@pytest.fixture(scope="session")
def noisy_pair() -> tuple[np.ndarray, np.ndarray]:
    """An image and its target, two frames of 200 x 180."""
    rng = np.random.default_rng(0)
    target = gaussian_filter(rng.normal(size=(2, 200, 180)), (0, 2, 2))
    target = ((target - target.min()) / np.ptp(target)).astype(np.float32)
    image = gaussian_filter(target, (0, 1, 1)) * 0.8 + 0.07 + rng.normal(scale=0.02, size=target.shape)
    return image.astype(np.float32), target
