"""Decorrelation analysis of images whose cut-off is known, and against nanopyx."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pssr2_monai.errors import InputError
from pssr2_monai.fidelity.decorrelation import decorrelation_resolution, peak_of, peaks

CUTOFFS, SLOPES = (0.25, 0.5, 0.8), (0.0, 0.5)  # as shares of the highest frequency; of the fall towards the cut-off
# ``calculate_decorr_analysis`` of nanopyx 2.1.5 on these images, stored.
OF_NANOPYX = (8.1667, 8.2466, 4.0246, 4.0164, 2.4908, 2.6134)


def _scenes() -> list[np.ndarray]:
    """White noise of 128 x 128 pixels filtered up to each cut-off, and some more noise."""
    rng = np.random.default_rng(0)
    frequency = 2 * np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None])
    scenes = []
    for cutoff, slope in ((cutoff, slope) for cutoff in CUTOFFS for slope in SLOPES):
        kept = np.where(frequency < cutoff, (1 - frequency / cutoff).clip(0) ** slope / (frequency + 0.02), 0)
        scene = np.fft.ifft2(kept * np.fft.fft2(rng.normal(size=(128, 128)))).real
        scene /= scene.std()
        scenes.append((scene + 0.05 * rng.normal(size=scene.shape)).astype(np.float32))
    return scenes


def test_the_resolution_is_the_cut_off_and_that_of_nanopyx() -> None:
    found = [decorrelation_resolution(scene) for scene in _scenes()]
    assert found == pytest.approx(OF_NANOPYX, rel=0.05)
    assert found[::2] == pytest.approx([2 / cutoff for cutoff in CUTOFFS], rel=0.02)  # those with a sharp cut-off


def test_gain_offset_and_orientation_do_not_matter_and_frames_count_together() -> None:
    scene = _scenes()[3]
    resolution = decorrelation_resolution(scene)
    assert decorrelation_resolution(300 * scene.T - 20) == pytest.approx(resolution, rel=1e-3)
    assert decorrelation_resolution(np.stack([scene, scene])) == pytest.approx(resolution)


def test_noise_constant_and_small_images_have_no_resolution() -> None:
    noise = np.random.default_rng(1).normal(size=(128, 128))
    assert all(math.isnan(decorrelation_resolution(image)) for image in (noise, np.ones((64, 64)), noise[:31]))
    with pytest.raises(InputError, match="31 x 128 pixels are too few"):
        peaks(noise[:31])


@pytest.mark.parametrize(
    ("curve", "place"),
    [
        ([0, 0.5, 0.3], 1),
        ([0, 0.2, 0.1, 0.4], 1),  # the highest value ends the curve
        ([0, 0.2, 0.19995, 0.1999], None),  # hardly falls
        ([0.9, 0.5, 0.3], None),
        ([0, 0.1, 0.2], None),
    ],
)
def test_a_peak_is_where_the_curve_falls_again(curve: list[float], place: int | None) -> None:
    assert peak_of(np.array(curve)) == place
