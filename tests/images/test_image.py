"""Opening, listing and reading, whatever the format: here on small TIFF and PNG files."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from pssr2_monai.errors import InputError
from pssr2_monai.images.files import list_images
from pssr2_monai.images.image import open_image


def ramp(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Pixels that all differ."""
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    "region",
    [
        np.s_[0:5, 0:40, 0:30],
        np.s_[1:2, 7:31, 3:4],
        np.s_[-2:, :, 25:],
        np.s_[2:2, :, :],
    ],
)
def test_read_gives_what_numpy_gives(tmp_path: Path, region: tuple[slice, ...], compression: str | None) -> None:
    data = ramp(5, 40, 30)
    tifffile.imwrite(tmp_path / "a.tif", data, compression=compression, metadata={"axes": "ZYX"})
    with open_image(tmp_path / "a.tif") as image:
        window = image.read(region)
        np.testing.assert_array_equal(window, data[region])
        window[...] = 0  # a copy, which changes nothing in the image
        np.testing.assert_array_equal(image.read(), data)


def test_opening_imports_only_what_the_format_needs(tmp_path: Path) -> None:
    Image.fromarray(ramp(20, 30, dtype="uint8")).save(tmp_path / "a.png")
    code = (
        "import sys; from pssr2_monai.images.image import open_image; open_image(sys.argv[1]).read(); "
        "print({'torch', 'zarr', 'tifffile', 'itk', 'mrcfile'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "set()"


def test_regions_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", ramp(40, 30))
    image = open_image(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="3 slices for 2 axes"):
        image.read(np.s_[:, :, :])
    with pytest.raises(ValueError, match="step"):
        image.read(np.s_[::2, :])


def test_a_closed_image_opens_its_file_again_unless_it_has_changed(tmp_path: Path) -> None:
    data = ramp(64, 48)
    tifffile.imwrite(tmp_path / "a.tif", data, compression="zlib")
    image = open_image(tmp_path / "a.tif")
    image.close()
    np.testing.assert_array_equal(image.read(), data)
    image.close()
    image.close()
    tifffile.imwrite(tmp_path / "a.tif", data[:40])
    with pytest.raises(InputError, match=r"a\.tif: was changed since it was opened"):
        image.read()


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_pickled_image_reads_on_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str | None
) -> None:
    data = ramp(64, 48)
    tifffile.imwrite(tmp_path / "a.tif", data, compression=compression, tile=(16, 16))
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(open_image("a.tif"))
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(pickle.loads(pickled).read(np.s_[3:20, 5:25]), data[3:20, 5:25])


def test_forked_child_opens_the_file_anew(tmp_path: Path) -> None:
    data = ramp(512, 512)
    tifffile.imwrite(tmp_path / "a.tif", data, compression="zlib", tile=(64, 64))
    image = open_image(tmp_path / "a.tif")
    image.read(np.s_[:100, :100])
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def work(first: int) -> None:
        answers.put(all((image.read(np.s_[i : i + 64, :]) == data[i : i + 64]).all() for i in range(first, 448, 16)))

    children = [context.Process(target=work, args=(i,)) for i in range(2)]
    for child in children:
        child.start()
    assert [answers.get() for _ in children] == [True, True]
    for child in children:
        child.join()
        assert child.exitcode == 0


@pytest.mark.parametrize(
    ("stored", "shape", "given", "axes"),
    [
        ("TZCYX", (1, 6, 1, 8, 9), None, "ZYX"),
        ("TZCYX", (1, 6, 1, 8, 9), "TZCYX", "ZYX"),
        ("TZCYX", (2, 6, 1, 8, 9), "ZTYX", "ZTYX"),
        ("QYX", (6, 8, 9), None, "ZYX"),
        ("QYX", (6, 8, 9), "TYX", "TYX"),
        ("QYX", (6, 8, 9), "tyx", "TYX"),
        ("ZQYX", (6, 7, 8, 9), None, "ZTYX"),
        ("TZYX", (6, 1, 1, 9), None, "TYX"),
        ("YX", (1, 1), None, "YX"),
    ],
)
def test_axes(tmp_path: Path, stored: str, shape: tuple[int, ...], given: str | None, axes: str) -> None:
    data = ramp(*shape)
    tifffile.imwrite(tmp_path / "a.tif", data, metadata={"axes": stored}, photometric="minisblack")
    with open_image(tmp_path / "a.tif", axes=given) as image:
        assert image.axes == axes
        assert image.shape == tuple(n for n, axis in zip(shape, stored, strict=True) if n > 1 or axis in "YX")
        np.testing.assert_array_equal(image.read(), data.reshape(image.shape))
        assert pickle.loads(pickle.dumps(image)).axes == axes


@pytest.mark.parametrize(
    ("shape", "given", "message"),
    [
        ((3, 4, 8, 9), None, r"a\.tif: the meaning of the axes is unknown .*axes='TZYX'"),
        ((6, 8, 9), "YX", r"a\.tif: axes 'YX'"),
        ((6, 8, 9), "ZZYX", r"a\.tif: axes 'ZZYX'"),
        ((6, 8, 9), "QYX", r"a\.tif: axes 'QYX'"),
    ],
)
def test_axes_that_do_not_fit(tmp_path: Path, shape: tuple[int, ...], given: str | None, message: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", ramp(*shape), photometric="minisblack")
    with pytest.raises(InputError, match=message):
        open_image(tmp_path / "a.tif", axes=given)


def test_a_folder_of_numbered_slices_is_a_stack(tmp_path: Path) -> None:
    data = ramp(12, 20, 30)
    for i, plane in enumerate(data):
        tifffile.imwrite(tmp_path / f"slice_{i}.tif", plane)  # 0, 1, 10, 11, 2 in the order of characters
    image = open_image(tmp_path)
    assert (image.axes, image.shape, image.dtype) == ("ZYX", (12, 20, 30), np.uint16)
    np.testing.assert_array_equal(image.read(), data)
    np.testing.assert_array_equal(image.read(np.s_[9:12, 3:9, 1:2]), data[9:12, 3:9, 1:2])
    assert open_image(tmp_path, axes="TYX").axes == "TYX"


@pytest.mark.parametrize(("shape", "dtype"), [((20, 31), "uint16"), ((20, 30), "uint8")])
def test_the_odd_slice_is_named(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    for i in range(3):
        tifffile.imwrite(tmp_path / f"{i}.tif", ramp(20, 30))
    tifffile.imwrite(tmp_path / "1.tif", ramp(*shape, dtype=dtype))
    with pytest.raises(InputError, match=rf"1\.tif is 20 x \d+ {dtype} YX, but 0\.tif is 20 x 30 uint16 YX"):
        open_image(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["with space.tif", "br[ack]et(s).tif", "com,ma.tif", "it's.tif", "UPPER.TIF", "x.Tiff", "µm-größe.tif", "-x.tif"],
)
def test_odd_names(tmp_path: Path, name: str) -> None:
    data = ramp(20, 30)
    tifffile.imwrite(tmp_path / name, data)
    np.testing.assert_array_equal(open_image(str(tmp_path / name)).read(), data)
    assert [path.name for path in list_images(tmp_path)] == [name]


def test_bad_files_are_refused_by_name(tmp_path: Path) -> None:
    def refused(name: str, message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            open_image(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)

    refused("missing.tif", "no such file")
    (tmp_path / "text.tif").write_text("This is no image.\n" * 50)
    refused("text.tif", "cannot be read as TIF")
    (tmp_path / "text.png").write_text("This is no image.\n" * 50)
    refused("text.png", "cannot be read as PNG")
    (tmp_path / "empty.tif").touch()
    refused("empty.tif", "empty")
    (tmp_path / "stack.oir").write_bytes(b"OLYMPUS")
    refused("stack.oir", "Olympus OIR files are not read; export .* OME-TIFF")
    (tmp_path / "notes.docx").write_bytes(b"PK")
    refused("notes.docx", "'.docx' are not read; images end in .*tif")
    (tmp_path / "folder").mkdir()
    refused("folder", "holds no image")
    tifffile.imwrite(tmp_path / "line.tif", ramp(50))
    refused("line.tif", r"1-D data of shape \(50\) is not an image")
    tifffile.imwrite(tmp_path / "complex.tif", ramp(20, 30, dtype="complex64"))
    refused("complex.tif", "complex numbers")


@pytest.mark.parametrize("kind", [MemoryError, RuntimeError])
def test_an_error_of_memory_names_its_file(tmp_path: Path, kind: type[Exception]) -> None:
    tifffile.imwrite(tmp_path / "large.tif", ramp(20, 30))
    image = open_image(tmp_path / "large.tif")

    def reader(region: tuple[slice, ...]) -> np.ndarray:
        raise kind("Unable to allocate 9 GiB")

    image.reader = reader
    with pytest.raises(MemoryError, match=r"large\.tif: Unable to allocate 9 GiB"):
        image.read()


def test_opacity_survives_pickling_and_is_asked_for(tmp_path: Path) -> None:
    data = ramp(20, 30, 4, dtype="uint8")
    Image.fromarray(data).save(tmp_path / "a.png")
    image = pickle.loads(pickle.dumps(open_image(tmp_path / "a.png")))
    np.testing.assert_array_equal(image.read_alpha(np.s_[2:5, 3:, 1:2]), data[2:5, 3:, 3:])
    image.close()
    np.testing.assert_array_equal(image.read_alpha(), data[..., 3:])
    Image.fromarray(data[..., 0]).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b\.png: has no alpha"):
        open_image(tmp_path / "b.png").read_alpha()


def test_truth_values_are_black_and_white(tmp_path: Path) -> None:
    mask = ramp(20, 30) % 3 == 0
    zarr.create_array(tmp_path / "mask.zarr", data=mask, chunks=(8, 8))
    image = open_image(tmp_path / "mask.zarr")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image.read(np.s_[3:, 5:9]), mask[3:, 5:9] * np.uint8(255))


def test_a_folder_of_slices_has_opacity_if_all_of_them_have(tmp_path: Path) -> None:
    data = ramp(4, 20, 30, 4, dtype="uint8")
    for i, plane in enumerate(data):
        Image.fromarray(plane).save(tmp_path / f"{i}.png")
    image = open_image(tmp_path)
    assert image.axes == "ZYXC"
    np.testing.assert_array_equal(image.read(), data[..., :3])
    np.testing.assert_array_equal(image.read_alpha(np.s_[1:3, 2:5, 3:, :]), data[1:3, 2:5, 3:, 3:])
    Image.fromarray(data[0, ..., :3]).save(tmp_path / "0.png")
    assert not open_image(tmp_path).has_alpha
