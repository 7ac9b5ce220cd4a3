"""Which image of a file is read: by number, by name, or the largest; positions and detectors as images."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pssr2_monai.errors import InputError
from pssr2_monai.images.contents import Contents, Entry, chosen, divided, inventory
from pssr2_monai.images.image import LazyImage, open_image

ENTRIES = (
    Entry("Snapshot", (48, 64, 3), np.dtype("u1"), "YXS"),
    Entry("Scan 1", (8, 40, 50), np.dtype("u2"), "ZYX"),
    Entry("scan 2", (8, 40, 50), np.dtype("u2"), "ZYX"),
    Entry("Slide preview", (999, 999), np.dtype("u1"), "YX"),
    Entry("Reduced", (999, 999), np.dtype("u1"), "YX", preview=True),
)


@pytest.mark.parametrize(
    ("image", "place"),
    [(None, 1), (1, 0), ("5", 4), (5, 4), ("Snapshot", 0), ("snapshot", 0), ("SCAN 2", 2), (" Scan 1 ", 1)],
)
def test_the_largest_is_chosen_unless_a_number_or_name_is_given(image: int | str | None, place: int) -> None:
    assert chosen(ENTRIES, image, "a.lif") == place


@pytest.mark.parametrize(
    ("name", "is_preview"),
    [
        ("label", True),
        ("Macro Image", True),
        ("x.svs thumbnail 1", True),
        ("SlidePreview", True),
        ("thumbnails of cells", False),
        ("label-free cells", False),
        ("unlabelled", False),
        ("macrophages", False),
    ],
)
def test_previews_are_known_by_their_names(name: str, is_preview: bool) -> None:
    scan = Entry("scan", (5, 5), np.dtype("u1"), "YX")
    other = Entry(name, (9, 9), np.dtype("u1"), "YX")
    assert chosen([other, scan], None, "a.svs") == int(is_preview)
    assert chosen([other], None, "a.svs") == 0  # where there is nothing else


@pytest.mark.parametrize("image", [0, 6, -1, "Scan", "6"])
def test_a_wrong_image_is_refused_with_all_that_there_are(image: int | str) -> None:
    with pytest.raises(
        InputError, match=r"a\.lif: there is no image .*holds 5 images: 1 Snapshot \(48 x 64 x 3"
    ) as caught:
        chosen(ENTRIES, image, "a.lif")
    assert "2 Scan 1 (8 x 40 x 50 uint16 ZYX)" in str(caught.value)
    assert "5 Reduced (999 x 999 uint8 YX, preview)" in str(caught.value)


def test_a_name_that_several_have_is_refused() -> None:
    twins = (ENTRIES[1], ENTRIES[1])
    with pytest.raises(InputError, match=r"a\.lif: images 1 and 2 are called 'Scan 1'; give a number"):
        chosen(twins, "Scan 1", "a.lif")
    assert "and 4 more" in inventory([ENTRIES[1]] * 24)


def test_positions_and_detectors_are_images_of_their_own() -> None:
    data = np.arange(2 * 3 * 5 * 4 * 6).reshape(2, 3, 5, 4, 6)
    image = LazyImage(Path("a"), data.shape, data.dtype, "PZDYX", {}, lambda region: data[region])
    contents = divided(Contents((Entry("run", data.shape, data.dtype, "PZDYX"),), lambda place: image), None)
    assert [entry.name for entry in contents.entries][:3] == [
        "run position 1 detector 1",
        "run position 1 detector 2",
        "run position 1 detector 3",
    ]
    assert len(contents.entries) == 10
    part = contents.open(7)  # position 2, detector 3
    assert (part.axes, part.shape) == ("ZYX", (3, 4, 6))
    np.testing.assert_array_equal(part.reader(np.s_[1:3, 0:4, 2:3]), data[1, 1:3, 2, :, 2:3])
    assert len(divided(Contents(contents.entries[:1], contents.open), None).entries) == 1
    whole = Contents((Entry("run", (5, 4, 6), data.dtype, "PYX"),), lambda place: image)
    assert len(divided(whole, "ZYX").entries) == 1  # the user says that it is Z


def test_what_is_read_is_told_once_and_kept_by_copies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    big, small = np.full((60, 70), 3, "uint16"), np.full((20, 30), 9, "uint8")
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(small, metadata={"name": "overview of the day"})
        tif.write(big, metadata={"name": "scan"})
    with caplog.at_level(logging.INFO, "pssr2_monai"):
        for _ in range(3):
            image = open_image(tmp_path / "a.tif")
    assert [record.getMessage() for record in caplog.records] == [
        "a.tif: image 2 of 2 (scan), 60 x 70 uint16 YX; choose another by number or name (--image)"
    ]
    assert (image.place, image.number, image.shape) == ("image 2 of 2 (scan)", 2, big.shape)
    chosen_one = open_image(tmp_path / "a.tif", image=1)
    assert pickle.loads(pickle.dumps(chosen_one)).read().shape == small.shape
    chosen_one._process = -1  # as in a forked process
    np.testing.assert_array_equal(chosen_one.read(), small)


def test_a_file_with_one_image_has_only_that(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 30), "uint8"))
    assert open_image(tmp_path / "a.tif", image=1).place == "image 1 of 1"
    with pytest.raises(InputError, match=r"a\.tif: there is no image 2; it holds 1 image: 1 \(20 x 30 uint8 YX\)"):
        open_image(tmp_path / "a.tif", image=2)
