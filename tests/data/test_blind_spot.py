"""Blind spots: which pixels are hidden, by what they are replaced, and what is compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pssr2_monai.data.blind_spot import BlindSpot, BlindSpotd, shown_target
from pssr2_monai.errors import InputError


def _hidden(shape: tuple[int, ...] = (1, 60, 50), seed: int = 0, **options: float) -> tuple[np.ndarray, ...]:
    image = np.random.default_rng(seed).random(shape).astype(np.float32)
    replaced, target = BlindSpot(**options).set_random_state(seed=seed)(image)  # type: ignore[arg-type]
    return image, np.asarray(replaced), np.asarray(target)


def test_each_box_of_the_grid_hides_one_pixel_and_keeps_it_as_target() -> None:
    image, replaced, target = _hidden(shape=(3, 60, 50), share=0.04)
    compared = np.isfinite(target)
    assert (compared.reshape(3, 12, 5, 10, 5).sum(axis=(2, 4)) == 1).all()
    np.testing.assert_array_equal(target[compared], image[compared])
    np.testing.assert_array_equal(replaced[~compared], image[~compared])
    assert not (compared[0] == compared[1]).all()


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_a_hidden_pixel_is_the_median_of_the_visible_ones_around(radius: int) -> None:
    image, replaced, target = _hidden(radius=radius, share=0.02)
    visible = np.where(np.isfinite(target), np.nan, image)[0]
    for y, x in np.argwhere(np.isfinite(target[0])):
        around = visible[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
        assert replaced[0, y, x] == pytest.approx(np.nanmedian(around))


def test_neighbours_along_the_scan_are_hidden_without_being_compared() -> None:
    image, replaced, target = _hidden(share=0.0025, along_x=3, along_y=1)
    expected = np.zeros((60, 50), dtype=bool)
    for y, x in np.argwhere(np.isfinite(target[0])):
        expected[y, max(x - 3, 0) : x + 4] = expected[max(y - 1, 0) : y + 2, x] = True
    np.testing.assert_array_equal(replaced[0] != image[0], expected)
    assert 6 <= np.isfinite(target).sum() <= 9


def test_hidden_pixels_tell_nothing_of_the_replacement() -> None:
    image, replaced, target = _hidden(along_x=2, share=0.02)
    changed = image.copy()
    changed[replaced != image] += 100
    again, _ = BlindSpot(along_x=2, share=0.02).set_random_state(seed=0)(changed)
    np.testing.assert_array_equal(again, replaced)
    assert np.isfinite(target).any()


def test_a_strip_longer_than_the_image_takes_the_median_of_the_frame() -> None:
    image = np.arange(36, dtype=np.float32).reshape(1, 6, 6)
    replaced, _ = BlindSpot(share=0.01, radius=1, along_x=9, along_y=9).set_random_state(seed=1)(image)
    assert np.isfinite(replaced).all()


def test_places_differ_between_draws_and_repeat_with_the_seed() -> None:
    image = torch.rand(1, 64, 64)
    spot = BlindSpot().set_random_state(seed=5)
    first, second = (torch.as_tensor(spot(image)[1]) for _ in range(2))
    again = torch.as_tensor(spot(image, randomize=False)[1])
    assert not torch.equal(first.isfinite(), second.isfinite())
    assert torch.equal(second.isfinite(), again.isfinite())
    assert torch.equal(torch.as_tensor(BlindSpot().set_random_state(seed=5)(image)[1]).isfinite(), first.isfinite())


def test_the_dictionary_form_makes_input_and_target() -> None:
    image = torch.rand(2, 40, 40)
    sample = BlindSpotd("label", share=0.01, along_y=1).set_random_state(seed=3)({"label": image, "name": "a"})
    hidden, target = BlindSpot(share=0.01, along_y=1).set_random_state(seed=3)(image)
    assert isinstance(sample["image"], torch.Tensor)
    torch.testing.assert_close(sample["image"], hidden)
    torch.testing.assert_close(sample["label"], target, equal_nan=True)
    assert sample["name"] == "a"
    assert torch.isfinite(image).all()  # the caller's image is as it was


@pytest.mark.parametrize("options", [{"share": 0}, {"share": 0.5}, {"radius": 0}, {"along_x": -1}, {"along_y": 1.5}])
def test_values_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"blind_spot: {next(iter(options))}"):
        BlindSpot(**options)  # type: ignore[arg-type]


def test_a_target_is_shown_with_the_input_where_nothing_is_compared() -> None:
    image = np.arange(48, dtype=np.float32).reshape(3, 4, 4)
    target = np.full((1, 4, 4), np.nan, dtype=np.float32)
    target[0, 1, 2] = 99
    expected = image[1:2].copy()
    expected[0, 1, 2] = 99
    np.testing.assert_array_equal(shown_target(target, image), expected)
    np.testing.assert_array_equal(shown_target(target[None], image[None]), expected[None])
    assert shown_target(expected, image[:1]) is expected
