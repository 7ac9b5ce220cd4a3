"""What of a file's statements holds for the restored image, by arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from pssr2_monai.images.metadata import ImageMetadata, color_ramp


def test_the_restored_image_covers_the_same_place() -> None:
    scan = ImageMetadata(origin={"Y": 52.1, "X": 60.9, "Z": 3.0}, time_step=2.5, labels=("a", "b"))
    restored = scan.scaled({"Y": 0.1, "X": 0.1, "Z": 0.3}, {"Y": 4, "X": 4})
    assert restored.origin == pytest.approx({"Y": 52.0625, "X": 60.8625, "Z": 3.0})
    # The left edge of the first pixel stays where it was.
    assert restored.origin["Y"] - 0.1 / 4 / 2 == pytest.approx(52.1 - 0.1 / 2)
    assert (restored.time_step, restored.labels) == (2.5, ("a", "b"))


def test_a_position_of_the_stage_stays_and_the_pixels_keep_their_place() -> None:
    scan = ImageMetadata(stage=({"X": 1.0}, {"X": -250.5, "Y": 3.0}))
    assert scan.at_position(1) == ImageMetadata(origin={"X": -250.5, "Y": 3.0}, framed=True)
    assert ImageMetadata(origin={"X": 2.0}).at_position(3) == ImageMetadata(origin={"X": 2.0})
    restored = scan.at_position(1).scaled({"Y": 0.1, "X": 0.1}, {"Y": 4, "X": 4})
    assert (restored.origin, restored.framed) == ({"X": -250.5, "Y": 3.0}, True)
    # Left and upper edge stay where they were: 3/8 of a pixel of the scan before its first pixel's centre.
    assert restored.shift == pytest.approx({"Y": -0.0375, "X": -0.0375})


def test_labels_of_planes_end_where_there_are_more_planes() -> None:
    scan = ImageMetadata(origin={"Z": 1.0}, labels=("a", "b"))
    restored = scan.scaled({"Z": 0.4}, {"Z": 2, "Y": 1, "X": 1})
    assert restored.labels == ()
    assert restored.origin == pytest.approx({"Z": 0.9})


def test_colors_follow_from_lookup_tables() -> None:
    green = np.zeros((3, 256), np.uint8)
    green[1] = range(256)
    assert color_ramp("00FF00") == green.tobytes()
    assert ImageMetadata(luts=(green.tobytes(), color_ramp("804020"))).lut_colors() == ("00FF00", "804020")
    assert ImageMetadata(luts=(green.tobytes(),), colors=("123456",)).lut_colors() == ("123456",)


def test_maps_keep_the_place_alone() -> None:
    scan = ImageMetadata(origin={"X": 1.0}, time_step=2.0, windows=((0, 10),), colors=("FF0000",))
    assert scan.of_other_values() == ImageMetadata(origin={"X": 1.0}, time_step=2.0)
