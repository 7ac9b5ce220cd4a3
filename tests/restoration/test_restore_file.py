"""Restoring one file: geometry, grey levels, pixel size, and running out of memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks import ResUNet
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.restore import restore
from pssr2_monai.restoration.restore_file import FileRestorer


class Interpolation(torch.nn.Module):
    """A network that only enlarges, by repeating pixels, the central frames."""

    def __init__(self, scale: int, n_out: int) -> None:
        super().__init__()
        self.scale, self.n_out = scale, n_out
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = (x.shape[1] - self.n_out) // 2
        return F.interpolate(x[:, first : first + self.n_out], scale_factor=self.scale, mode="nearest")


class VolumeInterpolation(Interpolation):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x[:, None], scale_factor=self.scale, mode="nearest")[:, 0]


def _record(scale: int, n_frames: tuple[int, int] = (1, 1), mode: str | None = None) -> Record:
    return Record(network={}, scale=scale, n_frames=n_frames, intensity=IntensitySettings(mode=mode))


def _restore(source: Path, target: Path, network: torch.nn.Module, record: Record, *inferer: SeamlessInferer) -> None:
    FileRestorer(network, record, *(inferer or [SeamlessInferer()])).restore(open_image(source), target)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("height", "width"), [(65, 33), (130, 301)])
@pytest.mark.parametrize("scale", [1, 3])
def test_an_identity_network_gives_the_image_back(
    dtype: type, height: int, width: int, scale: int, tmp_path: Path
) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (height, width)).astype(dtype)
    write_image(tmp_path / "in.tif", image, axes="YX", pixel_size={"Y": 0.016, "X": 0.016})
    inferer = SeamlessInferer(window=64, precision="float32")
    _restore(tmp_path / "in.tif", tmp_path / "out.tif", Interpolation(scale, 1), _record(scale), inferer)
    with open_image(tmp_path / "out.tif") as restored:
        assert (restored.dtype, restored.axes) == (np.dtype(dtype), "YX")
        assert restored.pixel_size == pytest.approx({"Y": 0.016 / scale, "X": 0.016 / scale})
        np.testing.assert_array_equal(restored.read(), image.repeat(scale, 0).repeat(scale, 1))


@pytest.mark.parametrize("n_frames", [(1, 1), (5, 1), (3, 3)])
def test_a_stack_gives_a_whole_stack(n_frames: tuple[int, int], tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 65536, (2, 7, 20, 24)).astype(np.uint16)
    write_image(tmp_path / "in.ome.tif", stack, axes="TZYX", pixel_size={"Z": 0.05, "Y": 0.01, "X": 0.01})
    _restore(tmp_path / "in.ome.tif", tmp_path / "out.ome.tif", Interpolation(2, n_frames[1]), _record(2, n_frames))
    with open_image(tmp_path / "out.ome.tif") as restored:
        assert restored.axes == "TZYX"
        assert restored.pixel_size == pytest.approx({"Z": 0.05, "Y": 0.005, "X": 0.005})
        np.testing.assert_allclose(restored.read(), stack.repeat(2, 2).repeat(2, 3), atol=130)


def test_five_frames_around_the_end_repeat_the_nearest(tmp_path: Path) -> None:
    class Mean(Interpolation):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=1, keepdim=True)

    levels = np.array([0, 50, 100, 150, 250], np.uint8)
    write_image(tmp_path / "in.tif", np.broadcast_to(levels[:, None, None], (5, 8, 8)), axes="ZYX", pixel_size={})
    record = _record(1, (5, 1))
    _restore(tmp_path / "in.tif", tmp_path / "out.tif", Mean(1, 1), record, SeamlessInferer(precision="float32"))
    restored = tifffile.imread(tmp_path / "out.tif")[:, 0, 0]
    padded = np.pad(levels.astype(float), 2, mode="edge")
    np.testing.assert_array_equal(restored, [round(padded[i : i + 5].mean()) for i in range(5)])


def test_nan_and_infinity_stay_where_they_are(tmp_path: Path, caplog) -> None:  # type: ignore[no-untyped-def]
    image = np.random.default_rng(0).uniform(-1, 1, (40, 40)).astype(np.float32)
    image[5, 5], image[30, 8], image[20, 20] = np.nan, np.inf, -np.inf
    write_image(tmp_path / "in.tif", image, axes="YX", pixel_size={})
    record = Record(network={}, scale=1, intensity=IntensitySettings("fixed", -1, 1))
    _restore(tmp_path / "in.tif", tmp_path / "out.tif", Interpolation(1, 1), record)
    np.testing.assert_allclose(tifffile.imread(tmp_path / "out.tif"), image, atol=1e-6)
    assert caplog.text.count("in.tif: holds areas without data") == 1


@pytest.mark.parametrize("axes", ["YX", "ZYX"])
def test_pixels_without_data_stay_without_and_spoil_none_around_them(axes: str, tmp_path: Path) -> None:
    image = np.full((4, 48, 40), 1000.0, np.float32) + np.arange(40)
    image = image if axes == "ZYX" else image[0]
    image[..., 10:20, 7:30] = np.nan
    write_image(tmp_path / "in.tif", image, axes=axes, pixel_size={})
    scale = [2, 2, 2] if axes == "ZYX" else 2
    record = Record(network={}, scale=scale, n_frames=(1, 2) if axes == "ZYX" else (1, 1))
    network = VolumeInterpolation(2, 1) if axes == "ZYX" else Interpolation(2, 1)
    inferer = SeamlessInferer(volume=axes == "ZYX")
    _restore(tmp_path / "in.tif", tmp_path / "out.tif", network, record, inferer)
    result = tifffile.imread(tmp_path / "out.tif")
    missing = np.isnan(image)
    for axis in range(image.ndim):
        missing = missing.repeat(2, axis)
    np.testing.assert_array_equal(np.isnan(result), missing)
    assert result[~missing].min() > 999
    assert result[~missing].max() < 1041


def test_padding_and_hot_pixels_do_not_reach_their_surroundings(tmp_path: Path) -> None:
    image = (9000 + 10 * np.arange(64) + np.random.default_rng(0).normal(0, 20, (64, 64))).astype(np.uint16)
    padded = np.zeros((96, 96), np.uint16)
    padded[:64, :64] = image
    padded[20, 30] = 65535
    write_image(tmp_path / "in.tif", padded, axes="YX", pixel_size={})

    class Mean(Interpolation):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.interpolate(F.avg_pool2d(x, 5, 1, 2, count_include_pad=False), scale_factor=2, mode="nearest")

    inferer = SeamlessInferer(precision="float32")
    _restore(tmp_path / "in.tif", tmp_path / "out.tif", Mean(2, 1), _record(2), inferer)
    restored = tifffile.imread(tmp_path / "out.tif")
    assert (restored[128:] == 0).all()
    assert (restored[:, 128:] == 0).all()
    expected = 9000 + 10 * np.arange(64)
    np.testing.assert_allclose(restored[:128:2, :128:2] - expected.astype(float), 0, atol=40)


def test_the_padding_of_each_of_joint_channels_stays(tmp_path: Path) -> None:
    rng, image = np.random.default_rng(0), np.zeros((2, 96, 96), np.uint16)
    image[0, :64, :64] = (9000 + rng.normal(0, 20, (64, 64))).astype(np.uint16)
    image[1] = (300 + rng.normal(0, 20, (96, 96))).astype(np.uint16)
    image[1, :, 70:] = 65535
    write_image(tmp_path / "in.tif", image, axes="CYX", pixel_size={})
    record = Record(network={}, scale=2, n_frames=(2, 2), stack="C")
    for name, source in (("out", image), ("swapped", image[::-1])):
        write_image(tmp_path / "in.tif", source, axes="CYX", pixel_size={}, overwrite=True)

        class Zero(Interpolation):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return F.interpolate(torch.zeros_like(x), scale_factor=2, mode="nearest")

        _restore(tmp_path / "in.tif", tmp_path / f"{name}.tif", Zero(2, 2), record)
        padded = np.stack([source[0] == source[0, -1, -1], source[1] == source[1, -1, -1]]).repeat(2, 1).repeat(2, 2)
        result = tifffile.imread(tmp_path / f"{name}.tif")
        np.testing.assert_array_equal(result[padded], source.repeat(2, 1).repeat(2, 2)[padded])
        assert set(result[~padded]) <= set(range(8000, 9500)) | set(range(150, 350))


def test_a_failing_network_leaves_no_output(tmp_path: Path) -> None:
    class Failing(Interpolation):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no")

    write_image(tmp_path / "in.tif", np.zeros((16, 16), np.uint8), axes="YX", pixel_size={})
    with pytest.raises(RuntimeError, match="no"):
        _restore(tmp_path / "in.tif", tmp_path / "out.tif", Failing(1, 1), _record(1))
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


def _ask_torch() -> None:
    torch.empty(2**60, dtype=torch.uint8)  # more than any processor can address


def _ask_numpy() -> None:
    np.empty(2**60, np.uint8)


def _fail_on_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def _fail_on_windows() -> None:
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: not enough memory: you tried")


@pytest.mark.parametrize("run_out", [_ask_torch, _ask_numpy, _fail_on_a_gpu, _fail_on_windows])
def test_out_of_memory_the_file_begins_anew_with_smaller_windows(
    run_out: Callable[[], None],
    tiny_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (200, 300)).astype(np.uint8)
    write_image(tmp_path / "lr.tif", pixels, axes="YX", pixel_size={})
    restore(tmp_path / "lr.tif", tmp_path / "small.tif", tiny_weights, window=128)
    forward, most = ResUNet.forward, 128 * 128

    def short_of_memory(network: ResUNet, x: torch.Tensor) -> torch.Tensor:
        if x.numel() > most:
            run_out()
        return forward(network, x)

    monkeypatch.setattr(ResUNet, "forward", short_of_memory)
    with caplog.at_level(logging.WARNING, "pssr2_monai"):
        restore(tmp_path / "lr.tif", tmp_path / "hr.tif", tiny_weights, window=256)
    assert "lr.tif: out of memory; begins anew with 1 of 128 LR pixels at a time" in caplog.text
    assert (tmp_path / "hr.tif").read_bytes() == (tmp_path / "small.tif").read_bytes()
    most = 100
    with pytest.raises(InputError, match=r"lr\.tif: out of memory even for the smallest window"):
        restore(tmp_path / "lr.tif", tmp_path / "none.tif", tiny_weights, window=256)
    assert not list(tmp_path.glob("none.tif*"))


def test_a_run_with_smaller_windows_resumes_with_them(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (400, 300)).astype(np.uint8)
    write_image(tmp_path / "lr.tif", pixels, axes="YX", pixel_size={})
    restore(tmp_path / "lr.tif", tmp_path / "small.tif", tiny_weights, window=128)
    forward, calls = ResUNet.forward, 0

    def short_of_memory(network: ResUNet, x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if x.numel() > 128 * 128:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if calls == 16:
            raise KeyboardInterrupt
        return forward(network, x)

    monkeypatch.setattr(ResUNet, "forward", short_of_memory)
    with pytest.raises(KeyboardInterrupt):
        restore(tmp_path / "lr.tif", tmp_path / "hr.tif", tiny_weights, window=256)
    with pytest.raises(InputError, match="a restoring of other settings"):
        restore(tmp_path / "lr.tif", tmp_path / "hr.tif", tiny_weights, window=128)
    caplog.clear()
    with caplog.at_level(logging.INFO, "pssr2_monai"):
        restore(tmp_path / "lr.tif", tmp_path / "hr.tif", tiny_weights, window=256)
    assert "resumes where it was interrupted" in caplog.text
    assert "out of memory" not in caplog.text
    assert (tmp_path / "hr.tif").read_bytes() == (tmp_path / "small.tif").read_bytes()


def test_another_failure_is_not_taken_for_a_lack_of_memory(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(network: ResUNet, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("something else")

    write_image(tmp_path / "lr.tif", np.zeros((70, 70), np.uint8), axes="YX", pixel_size={})
    monkeypatch.setattr(ResUNet, "forward", fail)
    with pytest.raises(RuntimeError, match="something else"):
        restore(tmp_path / "lr.tif", tmp_path / "hr.tif", tiny_weights)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize(("suffix", "rows"), [(".png", None), (".tif", None), (".tif", 7)])
def test_opacity_is_kept_and_not_restored(
    suffix: str, rows: int | None, colours: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(0, np.iinfo(dtype).max + 1, (33, 45, colours + 1)).astype(dtype)
    data[5:9, 5:9, -1] = 0
    (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(data))
    if rows:
        monkeypatch.setattr("pssr2_monai.restoration.restore_file.copy_alpha.__defaults__", (rows * 45 * 8 * colours,))
    inferer = SeamlessInferer(window=64, precision="float32")
    _restore(tmp_path / "in.png", tmp_path / f"out{suffix}", Interpolation(2, 1), _record(2), inferer)
    expected = data.repeat(2, 0).repeat(2, 1)
    image = open_image(tmp_path / f"out{suffix}")
    np.testing.assert_array_equal(image.read().reshape(66, 90, colours), expected[..., :-1])
    np.testing.assert_array_equal(image.read_alpha().reshape(66, 90), expected[..., -1])


def test_opacity_is_left_out_with_one_line_where_it_cannot_be_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = np.random.default_rng(0).integers(0, 256, (33, 45, 2), "uint8")
    (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(data))
    _restore(tmp_path / "in.png", tmp_path / "out.ome.zarr", Interpolation(2, 1), _record(2))
    assert open_image(tmp_path / "out.ome.zarr").shape == (66, 90)
    lines = [record.getMessage() for record in caplog.records if "opacity" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].endswith("out.ome.zarr: the opacity (alpha) is left out; TIFF and PNG hold it")
