"""Restoring files and folders: names, formats, and files that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pssr2_monai.errors import InputError, UsageError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import write_image
from pssr2_monai.machine import TABLE
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.restoration.plan import plan_restoring
from pssr2_monai.restoration.restore import restore, restoring_engine


def test_a_folder_keeps_its_names_and_refuses_what_exists(tiny_weights: Path, tmp_path: Path) -> None:
    for name in ("a.tif", "b.png"):
        image = np.random.default_rng(1).integers(0, 256, (20, 31), dtype=np.uint8)
        (tmp_path / "in").mkdir(exist_ok=True)
        write_image(tmp_path / "in" / name, image, axes="YX", pixel_size={})
    written = restore(tmp_path / "in", tmp_path / "out", tiny_weights)
    assert [path.name for path in written] == ["a.tif", "b.png"]
    with open_image(tmp_path / "out" / "a.tif") as restored:
        assert (restored.shape, restored.dtype, restored.pixel_size) == ((80, 124), np.uint8, {})
    before = (tmp_path / "out" / "a.tif").read_bytes()
    with pytest.raises(InputError, match=r"a\.tif: exists already"):
        restore(tmp_path / "in", tmp_path / "out", tiny_weights)
    restore(tmp_path / "in", tmp_path / "out", tiny_weights, overwrite=True)
    assert (tmp_path / "out" / "a.tif").read_bytes() == before


def test_a_folder_of_slices_is_one_stack_where_the_target_is_a_file(tiny_weights: Path, tmp_path: Path) -> None:
    slices = np.random.default_rng(0).integers(0, 256, (3, 16, 20), dtype=np.uint8)
    (tmp_path / "vol").mkdir()
    for number, plane in enumerate(slices):
        write_image(tmp_path / "vol" / f"z{number}.png", plane, axes="YX", pixel_size={})
    (in_parent,) = restore(tmp_path, tmp_path / "out", tiny_weights)
    assert in_parent.name == "vol.tif"
    (one,) = restore(tmp_path / "vol", tmp_path / "out" / "one.tif", tiny_weights)
    assert one.read_bytes() == in_parent.read_bytes()
    with open_image(one) as image:
        assert (image.axes, image.shape) == ("ZYX", (3, 64, 80))
    assert len(restore(tmp_path / "vol", tmp_path / "each", tiny_weights)) == 3


def test_a_bad_file_stops_the_job_before_it_starts(tiny_weights: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "a.tif", np.zeros((16, 16), np.uint8), axes="YX", pixel_size={})
    (tmp_path / "b.tif").write_text("no image")
    with pytest.raises(InputError, match=r"b\.tif"):
        restore(tmp_path, tmp_path / "out", tiny_weights)
    assert not (tmp_path / "out").exists()


def test_a_bad_file_is_left_out_where_asked(tiny_weights: Path, tmp_path: Path, caplog) -> None:  # type: ignore[no-untyped-def]
    for name in ("a.tif", "c.tif"):
        write_image(tmp_path / name, np.zeros((16, 16), np.uint8), axes="YX", pixel_size={})
    (tmp_path / "b.tif").write_text("no image")
    written = restore(tmp_path, tmp_path / "out", tiny_weights, skip_bad=True)
    assert [path.name for path in written] == ["a.tif", "c.tif"]
    assert "left out: b.tif" in caplog.text


@pytest.mark.parametrize(("format", "name"), [("ome.zarr", "a.ome.zarr"), ("ome.tif", "a.ome.tif"), (None, "a.png")])
def test_the_format_follows_the_input_unless_asked(
    format: str | None, name: str, tiny_weights: Path, tmp_path: Path
) -> None:
    write_image(tmp_path / "a.png", np.zeros((16, 16), np.uint8), axes="YX", pixel_size={})
    (written,) = restore(tmp_path / "a.png", tmp_path / "out", tiny_weights, format=format)
    assert written == tmp_path / "out" / name
    with open_image(written) as image:
        assert image.shape == (64, 64)
    with pytest.raises(InputError, match="'jp2' is not written"):
        restore(tmp_path / "a.png", tmp_path / "out", tiny_weights, format="jp2")
    with pytest.raises(InputError, match=r"b\.jp2: \.jp2 is not written; use tif"):
        restore(tmp_path / "a.png", tmp_path / "b.jp2", tiny_weights)
    assert not (tmp_path / "b.jp2").exists()


def test_a_mirrored_file_is_restored_as_its_mirror_image_by_all_orientations(
    tiny_weights: Path, tmp_path: Path
) -> None:
    scan = np.random.default_rng(0).uniform(0, 1, (40, 56)).astype(np.float32)
    restored = {}
    for name, pixels in {"scan": scan, "mirrored": scan[:, ::-1]}.items():
        write_image(tmp_path / f"{name}.tif", pixels, axes="YX", pixel_size={})
        for count in (1, 8):
            options = {"orientations": count, "precision": "float32"}
            written = restore(tmp_path / f"{name}.tif", tmp_path / f"{name}_{count}.tif", tiny_weights, **options)
            restored[name, count] = tifffile.imread(written[0])
    np.testing.assert_allclose(restored["mirrored", 8][:, ::-1], restored["scan", 8], atol=1e-5)
    assert abs(restored["mirrored", 1][:, ::-1] - restored["scan", 1]).max() > 1e-3


def test_restoring_is_profiled_on_demand(tiny_weights: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "lr.tif", np.zeros((70, 150), np.uint8), axes="YX", pixel_size={})
    restore(tmp_path / "lr.tif", tmp_path / "hr.tif", tiny_weights, window=64, profile=tmp_path / "profile")
    rows = (line.split() for line in (tmp_path / "profile" / TABLE).read_text().splitlines()[1:])
    milliseconds = {" ".join(name): float(time) for *name, time, _ in rows}
    assert list(milliseconds) == ["read", "network", "blend", "cast", "write", "everything else", "whole"]
    assert min(milliseconds.values()) >= 0
    assert milliseconds["network"] > 0


def test_keywords_of_former_releases_are_refused_with_the_new_ones(tiny_weights: Path) -> None:
    network, record = load_weights(tiny_weights, "cpu")
    with pytest.raises(UsageError, match="options#axes instead of evaluator#axes, options#skip_bad instead of"):
        restoring_engine(network, record, axes="ZYX", skip_bad=True)
    with pytest.raises(UsageError, match="there is no option 'overwrit'; did you mean 'overwrite'"):
        restoring_engine(network, record, overwrit=True)


def test_a_set_of_files_is_restored_once(
    tiny_weights: Path, tmp_path: Path, write_ome_set: Callable[..., list[Path]]
) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (3, 32, 40), "uint8")
    write_ome_set(tmp_path / "scans", stack)
    write_image(tmp_path / "whole.ome.tif", stack, axes="ZYX", pixel_size={})
    (one,) = restore(tmp_path / "scans", tmp_path / "restored", tiny_weights)
    (whole,) = restore(tmp_path / "whole.ome.tif", tmp_path / "restored", tiny_weights)
    assert one.name == "z0.ome.tif"
    with open_image(one) as image, open_image(whole) as expected:
        assert image.place.startswith("image 1 of 1")
        np.testing.assert_array_equal(image.read(), expected.read())


@pytest.mark.parametrize("workers", [None, 2])
def test_the_output_of_a_chosen_image_holds_it_alone(
    tiny_weights: Path, tmp_path: Path, workers: int | None, forked_workers: None
) -> None:
    snapshot, scan = (np.random.default_rng(1).integers(0, 255, shape, "uint8") for shape in ((40, 44), (48, 64)))
    for page in (snapshot, scan):
        tifffile.imwrite(tmp_path / "a.tif", page, append=True)
    for image, pixels in ((None, scan), (1, snapshot)):
        tifffile.imwrite(tmp_path / "alone.tif", pixels)
        (alone,) = restore(tmp_path / "alone.tif", tmp_path / "alone", tiny_weights, overwrite=True)
        (output,) = restore(
            tmp_path / "a.tif", tmp_path / "out", tiny_weights, image=image, overwrite=True, workers=workers
        )
        np.testing.assert_array_equal(tifffile.imread(output), tifffile.imread(alone))
    assert "(image 1 of 2, YX, 40 x 44 uint8)" in str(
        plan_restoring(tmp_path / "a.tif", tmp_path / "new", tiny_weights, image=1)
    )
    with pytest.raises(
        InputError, match=r"a\.tif: there is no image 'x'; it holds 2 images: 1 \(40 x 44 uint8 YX\); 2"
    ):
        restore(tmp_path / "a.tif", tmp_path / "new", tiny_weights, image="x")
