"""Restoring files: geometry, grey levels, pixel size, and no seams."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.images.writer import write_image
from pssr2_monai.machine import TABLE
from pssr2_monai.networks import AsVolume, ResUNet
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.restore import restore
from pssr2_monai.restoration.restore_file import restore_file


class Interpolation(torch.nn.Module):
    """A network that only enlarges, by repeating pixels, the central frames."""

    def __init__(self, scale: int, n_out: int) -> None:
        super().__init__()
        self.scale, self.n_out = scale, n_out
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = (x.shape[1] - self.n_out) // 2
        return F.interpolate(x[:, first : first + self.n_out], scale_factor=self.scale, mode="nearest")


def _record(scale: int, n_frames: tuple[int, int] = (1, 1), mode: str | None = None) -> Record:
    return Record(network={}, scale=scale, n_frames=n_frames, intensity=IntensitySettings(mode=mode))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("height", "width"), [(65, 33), (130, 301)])
@pytest.mark.parametrize("scale", [1, 3])
def test_an_identity_network_gives_the_image_back(
    dtype: type, height: int, width: int, scale: int, tmp_path: Path
) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (height, width)).astype(dtype)
    write_image(tmp_path / "in.tif", image, axes="YX", pixel_size={"Y": 0.016, "X": 0.016})
    inferer = SeamlessInferer(window=64, precision="float32")
    restore_file(tmp_path / "in.tif", tmp_path / "out.tif", Interpolation(scale, 1), _record(scale), inferer)
    with open_image(tmp_path / "out.tif") as restored:
        assert (restored.dtype, restored.axes) == (np.dtype(dtype), "YX")
        assert restored.pixel_size == pytest.approx({"Y": 0.016 / scale, "X": 0.016 / scale})
        np.testing.assert_array_equal(restored.read(), image.repeat(scale, 0).repeat(scale, 1))


@pytest.mark.parametrize("n_frames", [(1, 1), (5, 1), (3, 3)])
def test_a_stack_gives_a_whole_stack(n_frames: tuple[int, int], tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 65536, (2, 7, 20, 24)).astype(np.uint16)
    write_image(tmp_path / "in.ome.tif", stack, axes="TZYX", pixel_size={"Z": 0.05, "Y": 0.01, "X": 0.01})
    restore_file(tmp_path / "in.ome.tif", tmp_path / "out.ome.tif", Interpolation(2, n_frames[1]), _record(2, n_frames))
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
    restore_file(tmp_path / "in.tif", tmp_path / "out.tif", Mean(1, 1), record, SeamlessInferer(precision="float32"))
    found = tifffile.imread(tmp_path / "out.tif")[:, 0, 0]
    padded = np.pad(levels.astype(float), 2, mode="edge")
    np.testing.assert_array_equal(found, [round(padded[i : i + 5].mean()) for i in range(5)])


class EdgeMarking(torch.nn.Module):
    """Marks what a window cannot know: 1 within ``reach`` pixels of its edge, 0 elsewhere."""

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach = reach

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        marked = torch.ones_like(x)
        marked[..., self.reach : -self.reach, self.reach : -self.reach] = 0
        return F.interpolate(marked, scale_factor=2, mode="nearest")


@pytest.mark.parametrize(
    ("height", "width", "window", "overlap", "reach"),
    [
        (300, 700, 256, 0.25, 16),
        (257, 90, 256, 0.25, 16),
        (60, 513, 256, 0.25, 16),
        (130, 333, 96, 0.5, 12),
        (600, 300, 256, 0.3, 20),
        (600, 300, 256, 0.75, 40),
        (300, 200, 160, 0.9, 20),
    ],
)
def test_what_a_window_does_not_know_leaves_no_seam(
    height: int, width: int, window: int, overlap: float, reach: int
) -> None:
    inferer = SeamlessInferer(window, overlap, precision="float32")
    output = inferer(torch.rand(1, 1, height, width), EdgeMarking(reach))
    assert output.shape == (1, 1, 2 * height, 2 * width)
    # Along an axis that fits into a window the network sees the image's own edges.
    inside = [slice(2 * reach, -2 * reach) if size <= window else slice(None) for size in (height, width)]
    assert output[..., inside[0], inside[1]].max() < 1e-4


class VolumeEdgeMarking(EdgeMarking):
    """The same for runs of frames, which become twice as many."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        marked = torch.ones_like(x)
        inside = (slice(None), slice(4, -4), *[slice(self.reach, -self.reach)] * 2)
        marked[inside] = 0
        return marked.repeat_interleave(2, dim=1)


@pytest.mark.parametrize("shape", [(70, 200, 90), (33, 129, 200)])
def test_windows_of_a_volume_leave_no_seam_either(shape: tuple[int, int, int]) -> None:
    output = SeamlessInferer(precision="float32", volume=True)(torch.rand(1, *shape), VolumeEdgeMarking(8))
    assert output.shape == (1, 2 * shape[0], *shape[1:])
    # Along an axis that fits into a window the network sees the volume's own edges.
    whole = [size <= window for size, window in zip(shape, (48, 96, 96), strict=True)]
    inside = [slice(8, -8) if fits else slice(None) for fits in whole]
    assert output[0][tuple(inside)].max() < 1e-4


@pytest.mark.parametrize("shape", [(60, 70, 150), (20, 130, 60)])
def test_windows_of_a_volume_agree_with_the_whole(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    inner = ResUNet(1, 1, (8,), scale=[2, 1, 1], depth=0, interpolate=False, norm="", spatial_dims=3)
    network = AsVolume(inner).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    volume = torch.rand(1, *shape)
    with torch.inference_mode():
        whole = network(volume)
        windowed = SeamlessInferer(64, precision="float32", volume=True)(volume, network)
    error = (windowed - whole)[..., 16:-16, 16:-16, 16:-16].abs() / whole.std()
    assert error.max() < 1e-4


@pytest.mark.parametrize(("height", "width"), [(400, 262), (257, 600)])
def test_windows_agree_with_the_whole_image(height: int, width: int) -> None:
    torch.manual_seed(0)
    network = ResUNet(1, 1, (8, 16), scale=2, depth=1, interpolate=False, norm="")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    image = torch.rand(1, 1, height, width)
    with torch.inference_mode():
        whole = network.eval()(image)
        windowed = SeamlessInferer(precision="float32")(image, network)
    # The image's outermost pixels see reflected instead of zero padding; within, windows and the whole agree.
    error = (windowed - whole)[..., 32:-32, 32:-32].abs() / whole.std()
    assert error.max() < 1e-4


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


def test_nan_and_infinity_stay_where_they_are(tmp_path: Path, caplog) -> None:  # type: ignore[no-untyped-def]
    image = np.random.default_rng(0).uniform(-1, 1, (40, 40)).astype(np.float32)
    clean = image.copy()
    image[5, 5], image[30, 8], image[20, 20] = np.nan, np.inf, -np.inf
    write_image(tmp_path / "in.tif", image, axes="YX", pixel_size={})
    record = Record(network={}, scale=1, intensity=IntensitySettings("fixed", -1, 1))
    restore_file(tmp_path / "in.tif", tmp_path / "out.tif", Interpolation(1, 1), record)
    clean[5, 5], clean[30, 8], clean[20, 20] = -1, 1, -1
    np.testing.assert_allclose(tifffile.imread(tmp_path / "out.tif"), clean, atol=1e-6)
    assert "in.tif: holds NaN or infinite pixels" in caplog.text


def test_a_failing_network_leaves_no_output(tmp_path: Path) -> None:
    class Failing(Interpolation):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no")

    write_image(tmp_path / "in.tif", np.zeros((16, 16), np.uint8), axes="YX", pixel_size={})
    with pytest.raises(RuntimeError, match="no"):
        restore_file(tmp_path / "in.tif", tmp_path / "out.tif", Failing(1, 1), _record(1))
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="overlap: 0.05 of a window of 640"):
        SeamlessInferer(overlap=0.05)
    with pytest.raises(InputError, match="window: 100"):
        SeamlessInferer(window=100)


@pytest.mark.parametrize(
    "told",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("not enough memory: you"), MemoryError("no array")],
)
def test_out_of_memory_it_goes_on_with_less(
    told: Exception,
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
            raise told
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


def test_what_ran_out_of_memory_and_was_interrupted_goes_on(
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
    assert "goes on where it was interrupted" in caplog.text
    assert "out of memory" not in caplog.text
    assert (tmp_path / "hr.tif").read_bytes() == (tmp_path / "small.tif").read_bytes()


def test_less_memory_keeps_the_overlap_that_was_asked_for() -> None:
    smaller = SeamlessInferer(window=512, overlap=0.5, batch_size=2).halved(2)
    assert smaller is not None
    assert (smaller.window, smaller.overlap, smaller.batch_size) == (256, 0.5, 1)
    least = SeamlessInferer(window=512, overlap=0.125).halved()
    assert least is not None
    assert least.overlap == 0.25
    assert SeamlessInferer(window=64).halved() is None


def test_another_failure_is_not_taken_for_a_lack_of_memory(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(network: ResUNet, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("something else")

    write_image(tmp_path / "lr.tif", np.zeros((70, 70), np.uint8), axes="YX", pixel_size={})
    monkeypatch.setattr(ResUNet, "forward", fail)
    with pytest.raises(RuntimeError, match="something else"):
        restore(tmp_path / "lr.tif", tmp_path / "hr.tif", tiny_weights)


def test_restoring_is_profiled_on_demand(tiny_weights: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "lr.tif", np.zeros((70, 150), np.uint8), axes="YX", pixel_size={})
    restore(tmp_path / "lr.tif", tmp_path / "hr.tif", tiny_weights, window=64, profile=tmp_path / "profile")
    rows = (line.split() for line in (tmp_path / "profile" / TABLE).read_text().splitlines()[1:])
    milliseconds = {" ".join(name): float(time) for *name, time, _ in rows}
    assert list(milliseconds) == ["read", "network", "blend", "cast", "write", "everything else", "whole"]
    assert min(milliseconds.values()) >= 0
    assert milliseconds["network"] > 0
