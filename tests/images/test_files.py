"""Which files of a folder are images, and their names."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pssr2_monai.errors import InputError
from pssr2_monai.images.files import list_images, stem_of


def test_list_images_in_natural_order(tmp_path: Path) -> None:
    for name in (
        "b10.tif",
        "b2.TIFF",
        "a 1, [x]'s.tif",
        "b.tif",
        "b.tif2.tif",
        "b2.png",
        ".hidden.tif",
        "notes.txt",
        "b3.tif.part",
    ):
        (tmp_path / name).touch()
    for folder in ("c.zarr", "d.tif", ".e.zarr"):
        (tmp_path / folder).mkdir()
    (tmp_path / "f.zarr").touch()
    names = [path.name for path in list_images(tmp_path)]
    assert names == ["a 1, [x]'s.tif", "b2.png", "b2.TIFF", "b10.tif", "b.tif", "b.tif2.tif", "c.zarr"]


def test_list_images_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image"):
        list_images(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        list_images(tmp_path / "nowhere")
    (tmp_path / "file.tif").touch()
    with pytest.raises(InputError, match="is a file"):
        list_images(tmp_path / "file.tif")


def test_files_of_other_formats_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.tif", "a.txt", "b.oir", "c.vsi", "d.jp2", ".hidden.oir", "README", "volume.mhd", "volume.raw"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    for _ in range(2):
        assert [path.name for path in list_images(tmp_path)] == ["a.tif", "volume.mhd"]
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage().endswith("left out, since files of their kind are not read: b.oir, c.vsi, d.jp2")


def test_folders_of_images_next_to_images_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("b.tif", "old/a.tif", "stack/0.png", "figures/text.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    caplog.set_level(logging.INFO)
    assert list_images(tmp_path) == [tmp_path / "b.tif"]
    assert caplog.messages == [f"{tmp_path.name}: folders of images in it are left out: old, stack"]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("cell.tif", "cell"),
        ("cell.2.ome.TIF", "cell.2"),
        ("cell.OME.zarr", "cell"),
        ("brain.nii.gz", "brain"),
        ("cell", "cell"),
        ("cell.xyz", "cell"),
    ],
)
def test_stems(name: str, stem: str) -> None:
    assert stem_of(Path(name)) == stem
