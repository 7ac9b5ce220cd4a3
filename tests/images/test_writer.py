"""What is written is read back the same, by tifffile and by `open_image`; nothing unfinished looks finished."""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from pssr2_monai.errors import InputError
from pssr2_monai.images.files import list_images
from pssr2_monai.images.formats.tiff import TiffWriter
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import (
    ImageSpec,
    check_free,
    check_room,
    create_writer,
    move_into_place,
    part_path,
    remove,
    target_files,
    write_image,
    written_atomically,
)

SIZE = {"Z": 0.3, "Y": 0.1, "X": 0.09}


def ramp(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Pixels that all differ."""
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".TIFF", ".ome.zarr"])
@pytest.mark.parametrize(
    ("axes", "shape", "dtype"),
    [
        ("YX", (40, 30), "uint8"),
        ("ZYX", (5, 40, 30), "uint16"),
        ("TYX", (5, 40, 30), "float32"),
        ("CYX", (2, 40, 30), "uint16"),
        ("TZCYX", (2, 3, 4, 20, 30), "uint16"),
        ("CZYX", (2, 3, 20, 30), "uint8"),
        ("ZTYX", (3, 2, 20, 30), "int16"),
        ("YXC", (20, 30, 3), "uint8"),
        ("ZYXC", (4, 20, 30, 3), "uint8"),
        ("YXC", (20, 30, 2), "uint16"),
        ("ZYX", (5, 40, 30), "int8"),
        ("YX", (40, 30), "float64"),
        ("YX", (41, 1), "uint16"),
    ],
)
@pytest.mark.parametrize("size", [{}, SIZE], ids=["unknown", "known"])
def test_round_trip(
    tmp_path: Path, suffix: str, axes: str, shape: tuple[int, ...], dtype: str, size: dict[str, float]
) -> None:
    data = ramp(*shape, dtype=dtype)
    path = tmp_path / f"a{suffix}"
    write_image(path, data, axes=axes, pixel_size=size)
    assert os.listdir(tmp_path) == [path.name]
    if "zarr" in suffix:  # the format prescribes an order of axes
        data = data.transpose([axes.index(axis) for axis in "TCZYX" if axis in axes])
        axes, shape = "".join(axis for axis in "TCZYX" if axis in axes), data.shape
    with open_image(path) as image:
        assert (image.axes, image.shape, image.dtype) == (axes, shape, np.dtype(dtype))
        assert image.pixel_size == pytest.approx({axis: size[axis] for axis in "ZYX" if axis in axes and axis in size})
        np.testing.assert_array_equal(image.read(), data)
    if "zarr" not in suffix:
        np.testing.assert_array_equal(tifffile.imread(path), data)


@pytest.mark.parametrize("size", [{"X": 0.1}, {"Z": 0.3}, {"Y": 0.2, "X": 0.1}, {"Y": 0.2, "Z": 0.3}])
@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".ome.zarr"])
def test_what_is_partly_known_stays_partly_known(tmp_path: Path, suffix: str, size: dict[str, float]) -> None:
    write_image(tmp_path / f"a{suffix}", ramp(3, 20, 30), axes="ZYX", pixel_size=size)
    assert open_image(tmp_path / f"a{suffix}").pixel_size == pytest.approx(size)


@pytest.mark.parametrize(
    ("suffix", "axes", "shape"),
    [
        (".ome.tif", "CZYX", (2, 3, 20, 30)),
        (".tif", "CYX", (2, 20, 30)),
        (".tif", "TCYX", (3, 2, 20, 30)),
        (".ome.zarr", "CZYX", (2, 3, 20, 30)),
    ],
)
def test_channel_names(tmp_path: Path, suffix: str, axes: str, shape: tuple[int, ...]) -> None:
    write_image(tmp_path / f"a{suffix}", ramp(*shape), axes=axes, pixel_size={}, channel_names=("DAPI", "GFP <2>"))
    assert open_image(tmp_path / f"a{suffix}").channel_names == ("DAPI", "GFP <2>")


def test_fiji_finds_its_own_description(tmp_path: Path) -> None:
    write_image(tmp_path / "a.tif", ramp(3, 2, 20, 30), axes="ZCYX", pixel_size=SIZE)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        meta = tif.imagej_metadata
        assert meta is not None
        assert {key: meta[key] for key in ("slices", "channels", "hyperstack", "mode", "unit", "spacing")} == {
            "slices": 3,
            "channels": 2,
            "hyperstack": True,
            "mode": "composite",
            "unit": "micron",
            "spacing": 0.3,
        }
        numerator, denominator = tif.pages.first.tags["XResolution"].value
        assert denominator / numerator == pytest.approx(0.09)
    write_image(tmp_path / "b.tif", ramp(20, 30), axes="YX", pixel_size={})
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        assert tif.is_imagej
        assert "unit" not in (tif.imagej_metadata or {})


def test_ome_xml_is_valid(tmp_path: Path) -> None:
    write_image(tmp_path / "a.ome.tif", ramp(3, 2, 20, 30), axes="ZCYX", pixel_size=SIZE, channel_names=("a", "b"))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        assert tif.is_ome
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
    sizes = {f"PhysicalSize{axis}": size for axis, size in SIZE.items()}
    assert {key: pixels[key] for key in sizes} == pytest.approx(sizes)
    assert {pixels[f"{key}Unit"] for key in sizes} == {"µm"}


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".ome.zarr", ".png"])
def test_regions_in_any_order(tmp_path: Path, suffix: str) -> None:
    data = ramp(45, 61)
    blocks = [np.s_[y : min(y + 16, 45), x : min(x + 20, 61)] for y in range(0, 45, 16) for x in range(0, 61, 20)]
    with create_writer(tmp_path / f"a{suffix}", shape=data.shape, dtype="uint16", axes="YX", pixel_size=SIZE) as writer:
        for block in np.random.default_rng(0).permutation(len(blocks)):
            writer.write(blocks[block], data[blocks[block]])
            assert list(tmp_path.glob("a*")) == list(tmp_path.glob("a*.part"))
    np.testing.assert_array_equal(open_image(tmp_path / f"a{suffix}").read(), data)


@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr"])
def test_other_processes_may_write_too(tmp_path: Path, suffix: str) -> None:
    data = ramp(40, 30)
    writer = create_writer(tmp_path / f"a{suffix}", shape=data.shape, dtype="uint16", axes="YX", pixel_size={})
    pickle.loads(pickle.dumps(writer)).write(np.s_[:20, :], data[:20])
    writer.write(np.s_[20:, :], data[20:])
    writer.close()
    np.testing.assert_array_equal(open_image(tmp_path / f"a{suffix}").read(), data)


@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr", ".png"])
def test_a_block_that_raises_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    def half_write() -> None:
        with create_writer(
            tmp_path / f"a{suffix}", shape=(40, 30), dtype="uint8", axes="YX", pixel_size={}, overwrite=True
        ) as writer:
            writer.write(np.s_[:20, :], np.zeros((20, 30), "uint8"))
            with pytest.raises(InputError):
                list_images(tmp_path)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half_write()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr", ".png"])
def test_an_older_file_stays_until_the_new_one_is_complete(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    old, new = ramp(40, 30, dtype="uint8"), ramp(20, 30, dtype="uint8") + 7
    write_image(path, old, axes="YX", pixel_size={})
    with pytest.raises(InputError, match="exists already"):
        write_image(path, new, axes="YX", pixel_size={})
    writer = create_writer(path, shape=new.shape, dtype="uint8", axes="YX", pixel_size={}, overwrite=True)
    writer.write(np.s_[:, :], new)
    np.testing.assert_array_equal(open_image(path).read(), old)
    writer.close()
    np.testing.assert_array_equal(open_image(path).read(), new)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
def test_a_folder_of_other_things_is_never_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").touch()
    with pytest.raises(InputError, match="is not overwritten"):
        write_image(tmp_path / name, ramp(20, 30), axes="YX", pixel_size={}, overwrite=True)
    assert os.listdir(tmp_path / name) == ["thesis.txt"]


@pytest.mark.parametrize("shards", [None, (2, 256, 160)])
def test_a_pyramid_made_block_by_block_is_that_made_at_the_end(shards: tuple[int, ...] | None, tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 65535, (3, 301, 517), "uint16")
    settings: dict[str, Any] = {"shape": data.shape, "dtype": "uint16", "axes": "ZYX", "pixel_size": {}, "chunk": 64}
    with create_writer(tmp_path / "whole.zarr", **settings) as writer:
        writer.write(np.s_[:, :, :], data)
    with create_writer(tmp_path / "blocks.zarr", **settings, in_blocks=True, shards=shards) as writer:
        assert writer.chunks == ((1, 128, 128) if shards is None else (2, 256, 256))
        with pytest.raises(ValueError, match="is not made of whole blocks"):
            writer.write(np.s_[:1, :64, :128], data[:1, :64, :128])
        grid = [range(0, size, step) for size, step in zip(data.shape, writer.chunks, strict=True)]
        for corner in itertools.product(*grid):
            ends = zip(corner, writer.chunks, data.shape, strict=True)
            block = tuple(slice(start, min(start + step, size)) for start, step, size in ends)
            writer.write(block, data[block])
    whole, blocks = (zarr.open_group(str(tmp_path / f"{name}.zarr"), mode="r") for name in ("whole", "blocks"))
    assert set(whole.array_keys()) == set(blocks.array_keys()) == {"0", "1", "2"}
    for name in whole.array_keys():
        np.testing.assert_array_equal(whole[name][:], blocks[name][:])
    np.testing.assert_array_equal(blocks["0"][:], data)
    assert blocks["0"].chunks == (1, 64, 64)
    assert blocks["0"].shards == (None if shards is None else (2, 256, 256))
    assert blocks["1"].shards == (None if shards is None else (2, 128, 128))
    with open_image(tmp_path / "blocks.zarr") as image:
        np.testing.assert_array_equal(image.read(np.s_[1:, 100:300, 3:400]), data[1:, 100:300, 3:400])


def test_the_same_output_is_the_same_file(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in ("a.tif", "a.ome.tif", "a.png"):
            write_image(tmp_path / folder / name, ramp(20, 30), axes="YX", pixel_size=SIZE)
    for name in ("a.tif", "a.ome.tif", "a.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("a.jpg", {}, "'.jpg' are not written; use .tif"),
        ("a.tif", {"dtype": "float16"}, "no float16; write .ome.zarr"),
        ("a.tif", {"axes": "YXZ"}, "Y and X last"),
        ("a.tif", {"axes": "YX"}, "axes 'YX'"),
        ("a.tif", {"channel_names": ("a", "b")}, "2 channel names for 1 channels"),
        ("a.tif", {"pixel_size": {"X": 0.0}}, "pixel size"),
        ("a.tif", {"pixel_size": {"T": 2.0}}, "pixel size"),
        ("a.png", {}, "a PNG holds one"),
        ("nowhere/a.tif", {}, "no folder"),
        ("a.tif", {"shards": (1, 20, 30), "in_blocks": True}, "a.tif: has no shards; write .ome.zarr"),
        ("a.zarr", {"shards": (1, 20, 30)}, "a.zarr: has no shards"),
    ],
)
def test_refusals(tmp_path: Path, name: str, changes: dict[str, object], message: str) -> None:
    settings = {"shape": (3, 20, 30), "dtype": "uint16", "axes": "ZYX", "pixel_size": {}, **changes}
    with pytest.raises(InputError, match=message):
        create_writer(tmp_path / name, **settings)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_wrong_arrays_are_refused(tmp_path: Path) -> None:
    writer = create_writer(tmp_path / "a.tif", shape=(20, 30), dtype="uint8", axes="YX", pixel_size={})
    with pytest.raises(ValueError, match="holds uint8, got float32"):
        writer.write(np.s_[:, :], np.zeros((20, 30), "float32"))
    with pytest.raises(ValueError, match="shape"):
        writer.write(np.s_[:10, :], np.zeros((20, 30), "uint8"))
    with pytest.raises(ValueError, match="does not lie in"):
        writer.write(np.s_[10:25, :], np.zeros((15, 30), "uint8"))
    writer.abort()
    with pytest.raises(ValueError, match="closed"):
        writer.write(np.s_[:, :], np.zeros((20, 30), "uint8"))
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_noticed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 100, 100))
    with pytest.raises(InputError, match="GB free"):
        create_writer(tmp_path / "a.tif", shape=(20, 30), dtype="uint8", axes="YX", pixel_size={})


def test_big_images_are_bigtiff(tmp_path: Path) -> None:
    data = ramp(3, 20, 30)
    writer = TiffWriter(ImageSpec(tmp_path / "a.tif", data.shape, data.dtype, "ZYX", SIZE), imagej_bytes=1000)
    writer.write(np.s_[:, :, :], data)
    writer.close()
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_bigtiff
        assert tif.is_ome
    image = open_image(tmp_path / "a.tif")
    assert image.pixel_size == pytest.approx(SIZE)
    np.testing.assert_array_equal(image.read(), data)


def test_what_a_killed_process_was_writing_is_not_left(tmp_path: Path) -> None:
    data = ramp(20, 30)
    writer = create_writer(tmp_path / "a.zarr", shape=data.shape, dtype=data.dtype, axes="YX", pixel_size={})
    writer.write(np.s_[:, :], data)
    (chunk,) = tmp_path.glob("*/0/c/0/0")
    chunk.with_suffix(".0ad99ddda494434abc46a61be09b7d46.partial").write_bytes(chunk.read_bytes()[:9])  # as zarr does
    writer.close(keep=True)
    assert not list(tmp_path.rglob("*.partial"))
    np.testing.assert_array_equal(open_image(tmp_path / "a.zarr").read(), data)


def test_a_file_appears_when_its_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    target.write_text("old")
    with written_atomically(target) as part:
        assert part == tmp_path / "figures.json.part"
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "figures.json"
    target.write_text("old")

    def fail(part: Path) -> None:
        part.write_text("half")
        raise error

    with pytest.raises(error), written_atomically(target) as part:
        fail(part)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_block_that_writes_nothing_is_an_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), written_atomically(target):
        pass
    assert target.read_text() == "old"


def test_what_a_killed_process_left_is_not_mixed_with_the_new_output(tmp_path: Path) -> None:
    left = part_path(tmp_path / "pairs")
    (left / "HR").mkdir(parents=True)
    (left / "HR" / "old.tif").touch()
    with written_atomically(tmp_path / "pairs") as part:
        assert not part.exists()
        part.mkdir()
        (part / "new.tif").touch()
    assert [path.name for path in (tmp_path / "pairs").iterdir()] == ["new.tif"]


def test_a_temporary_name_may_keep_a_suffix_for_libraries(tmp_path: Path) -> None:
    with written_atomically(tmp_path / "model.ts", ".ts") as part:
        assert part.name == "model.ts.part.ts"
        part.touch()
    assert [path.name for path in tmp_path.iterdir()] == ["model.ts"]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    old, new = tmp_path / "a.zarr", tmp_path / "a.zarr.part"
    for folder, name in ((old, "old"), (new, "new")):
        folder.mkdir()
        (folder / name).touch()
    move_into_place(new, old)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["a.zarr", "a.zarr/new"]


@pytest.mark.trust
@pytest.mark.parametrize("name", ["a.tif", "a.ome.zarr", "a.png"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_link_in_place_of_an_unfinished_output_is_not_followed(name: str, resume: bool, tmp_path: Path) -> None:
    victim, image = tmp_path / "victim", np.full((20, 30), 5, np.uint8)
    if name.endswith("zarr"):
        victim.mkdir()
        (victim / "0").write_text("kept")
    else:
        victim.write_text("kept")
    (tmp_path / f"{name}.part").symlink_to(victim)
    target = tmp_path / name
    with create_writer(target, shape=(20, 30), dtype=np.uint8, axes="YX", pixel_size={}, resume=resume) as writer:
        writer.write([slice(None)] * 2, image)
    assert (victim / "0" if victim.is_dir() else victim).read_text() == "kept"
    with open_image(target) as written:
        np.testing.assert_array_equal(written.read(), image)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.trust
def test_removing_a_link_keeps_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name in ("link", "link", "absent"):
        remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    remove(tmp_path / "folder")
    assert not list(tmp_path.iterdir())


def test_names_that_are_taken_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    (tmp_path / "folder").mkdir()
    check_free(tmp_path / "b.tif", overwrite=False)
    check_free(tmp_path / "a.tif", overwrite=True)
    for path, overwrite, message in (
        (tmp_path / "a.tif", False, "a.tif: exists already"),
        (tmp_path / "no" / "a.tif", True, "there is no folder"),
        (tmp_path / "folder", True, "is a folder, but not a Zarr image"),
    ):
        with pytest.raises(InputError, match=message):
            check_free(path, overwrite)


def test_an_output_larger_than_the_disk_has_free_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**10, 0, 5 * 10**9))
    check_room(tmp_path / "a.tif", 5 * 10**9)
    with pytest.raises(InputError, match=r"a.tif: needs 5\.01 GB, but .* has 5\.00 GB free"):
        check_room(tmp_path / "a.tif", 5 * 10**9 + 10**7)


def test_targets_have_the_names_of_the_sources(tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    (scans / "c.zarr").mkdir(parents=True)
    for name in ("a.tif", "b.ome.tif", "d.czi", "c.zarr/zarr.json"):
        (scans / name).touch()

    def names(source: Path, target: Path, format: str | None = None) -> dict[str, str]:
        return {file.name: output.name for file, output in target_files(source, target, False, format)}

    assert names(scans, out) == {"a.tif": "a.tif", "b.ome.tif": "b.ome.tif", "c.zarr": "c.zarr", "d.czi": "d.tif"}
    assert names(scans, out, "ome.zarr") == {file: f"{file[0]}.ome.zarr" for file in names(scans, out)}
    assert names(scans / "a.tif", out, ".PNG") == {"a.tif": "a.png"}
    assert target_files(scans, tmp_path / "stack.tif", False, None) == [(scans, tmp_path / "stack.tif")]


def test_targets_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    for name in ("a.czi", "a.tif", "b.tif"):
        (tmp_path / name).touch()
    scan, scans = tmp_path / "a.tif", tmp_path
    for source, target, format, message in (
        (scans, tmp_path / "out", None, "a.czi: another image of the folder would also be written to a.tif"),
        (scan, scan, None, "a.tif: the output is the input itself"),
        (scan, tmp_path / "b.tif", None, "b.tif: exists already"),
        (scan, tmp_path / "out.jpg", None, "out.jpg: .jpg is not written; use tif, ome.tif, ome.zarr or png"),
        (scan, tmp_path / "out", "gif", "format: 'gif' is not written"),
    ):
        with pytest.raises(InputError, match=message):
            target_files(source, target, False, format)
    assert target_files(scan, tmp_path / "b.tif", True, None) == [(scan, tmp_path / "b.tif")]
    assert target_files(scan, tmp_path / "b.tif", False, None, lambda path: path.name == "b.tif")


@pytest.mark.parametrize(
    ("dtype", "axes"), [("uint8", "YXC"), ("uint16", "ZYXC"), ("uint16", "YX"), ("float32", "ZYX")]
)
@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_tiff_holds_opacity_as_one_more_sample(tmp_path: Path, name: str, dtype: str, axes: str) -> None:
    shape = tuple({"Z": 4, "Y": 20, "X": 30, "C": 3}[axis] for axis in axes)
    data = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    one = (*shape[: axes.index("X") + 1], 1) if "C" in axes else shape
    alpha = np.arange(np.prod(one))[::-1].reshape(one).astype(dtype)
    options: dict[str, Any] = {"shape": shape, "dtype": dtype, "axes": axes, "pixel_size": {}, "alpha": True}
    with create_writer(tmp_path / name, **options) as writer:
        assert writer.holds_alpha
        half = axes.index("Y")
        for part in (slice(0, 7), slice(7, 20)):
            region = [part if i == half else slice(None) for i in range(len(axes))]
            writer.write(region, data[tuple(region)])
            region = [slice(0, 1) if axis == "C" else part for axis, part in zip(axes, region, strict=True)]
            writer.write_alpha(region, alpha[tuple(region)])
    with tifffile.TiffFile(tmp_path / name) as tif:
        stored = np.concatenate([data, alpha], -1) if "C" in axes else np.stack([data, alpha], -1)
        np.testing.assert_array_equal(tif.asarray(), stored)
        assert [int(kind) for kind in tif.pages.first.extrasamples] == [2]
    image = open_image(tmp_path / name)
    np.testing.assert_array_equal(image.read(), data)
    np.testing.assert_array_equal(image.read_alpha(), alpha)


def test_opacity_is_left_out_where_a_format_has_no_place_for_it(tmp_path: Path) -> None:
    for name, axes in (("a.ome.zarr", "YX"), ("a.tif", "CYX")):
        options: dict[str, Any] = {"dtype": "uint8", "axes": axes, "pixel_size": {}, "alpha": True}
        with create_writer(tmp_path / name, shape=(3, 20, 30)[-len(axes) :], **options) as writer:
            assert not writer.holds_alpha


@pytest.mark.parametrize("channels", [2, 4])
def test_channels_that_come_last_are_no_opacity(tmp_path: Path, channels: int) -> None:
    data = np.arange(20 * 30 * channels).reshape(20, 30, channels).astype("uint16")
    write_image(tmp_path / "a.tif", data, axes="YXC", pixel_size={})
    image = open_image(tmp_path / "a.tif")
    assert not image.has_alpha
    np.testing.assert_array_equal(image.read(), data)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["a.tif", "a.ome.zarr", "a.png"])
def test_links_at_the_temporary_name_are_not_followed(tmp_path: Path, name: str, resume: bool) -> None:
    data = np.arange(20 * 30, dtype=np.uint8).reshape(20, 30)
    victim = tmp_path / f"victim-{name}"
    write_image(victim, data, axes="YX", pixel_size={})
    before = {file: file.read_bytes() for file in [victim, *victim.rglob("*")] if file.is_file()}
    (tmp_path / f"{name}.part").symlink_to(victim)
    with create_writer(
        tmp_path / name, shape=data.shape, dtype="uint8", axes="YX", pixel_size={}, resume=resume
    ) as writer:
        writer.write(np.s_[:, :], data + 1)
    assert before == {file: file.read_bytes() for file in [victim, *victim.rglob("*")] if file.is_file()}
    np.testing.assert_array_equal(open_image(tmp_path / name).read(), data + 1)
