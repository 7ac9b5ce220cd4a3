"""Previews of the training data: crappified images, and the tiles as the trainer gets them."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from tqdm import tqdm

from pssr2_monai.bundle import bundle_dir
from pssr2_monai.crappify.transforms import Crappifyd
from pssr2_monai.data.datalists import TileLists
from pssr2_monai.data.loading import LoadTiled, TileDataset
from pssr2_monai.data.scales import shared_intensity
from pssr2_monai.errors import InputError, check_folder
from pssr2_monai.images.axes import Frames, factors, frames_of
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.intensity import Intensity, IntensitySettings
from pssr2_monai.images.padding import without_data
from pssr2_monai.images.windows import Window, fit_image_intensity, plane_size, read_scaled, read_window, write_window
from pssr2_monai.images.writer import create_writer, target_files, write_image
from pssr2_monai.training.config import check_overrides, config_files
from pssr2_monai.training.start import with_settings
from pssr2_monai.training.train import plain_errors, text_as_strings

FOLDERS = {"image": "LR", "label": "HR", "extra": "extra"}  # of the tiles of each key of a sample
logger = logging.getLogger(__name__)


def crappify_images(
    source: str | Path,
    target: str | Path,
    *,
    preset: str | Sequence[str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
    format: str | None = None,
    trust: bool = False,
    **overrides: Any,
) -> list[Path]:
    """Crappify an image, or every image of a folder, as a training would.

    Axes, dtype and intensity scale stay those of the file; the pixel size grows by the scale. What the scale does not
    divide is cut off at the end of an axis. The parameters and the noise of each LR frame are drawn anew; they follow
    from the seed, the file's name and the frame's number.

    Args:
        source: an image file, a folder of them, or a folder of slices if the target is a file.
        target: the file to write, or the folder to write files of the same names into.
        preset: presets merged over the training config, in turn: names or JSON files; in a string, separated by commas.
        seed: of the crappifier's draws.
        overwrite: replace existing files.
        format: ``tif``, ``ome.tif``, ``ome.zarr`` or ``png`` for files written into a folder; by default that of the
            source.
        trust: let preset files hold expressions and classes that are not registered: they are then programs.
        **overrides: any other id of the training config: ``scale``, ``axes``, ``crappifier#clip``, ...

    Returns:
        The files written.

    Raises:
        InputError: before any work, for an unknown preset or id, a source that cannot be read or is smaller than the
            scale, or a target that exists; or a crappifier that does not shrink by the scale.

    Example:
        >>> [path.name for path in crappify_images("images", "crappified", scale=4)]
        ['cell_0.tif', 'cell_1.tif', 'cell_2.tif', 'cell_3.tif', 'cell_4.tif']
    """
    crappifying = _image_crappifier(preset, overrides, trust)
    pairs = target_files(Path(source), Path(target), overwrite, format)
    scales_of = crappifying.scales([file for file, _ in pairs])
    for file, output in pairs:
        output.parent.mkdir(parents=True, exist_ok=True)
        with open_image(file, crappifying.axes, crappifying.image) as image:
            crappifying.write(image, output, scales_of(image), seed, overwrite)
        logger.info("%s -> %s", file, output)
    return [output for _, output in pairs]


def preprocess(
    data: str | Path,
    out: str | Path,
    *,
    preset: str | Sequence[str] | None = None,
    epoch: int = 1,
    limit: int | None = None,
    overwrite: bool = False,
    trust: bool = False,
    **overrides: Any,
) -> list[Path]:
    """Write the LR and HR tiles that a training would see in one epoch.

    Tiles are float32 TIFF files in [0, 1]. Their names state the tile's number, sheet and central frame, and the row
    and column of its corner, but not its orientation.

    Args:
        data: folder of high-resolution images, as for a training.
        out: folder for the folders ``LR``, ``HR`` and, if there are third images, ``extra``.
        preset: presets merged over the training config, in turn: names or JSON files; in a string, separated by commas.
        epoch: number of the epoch, from 1; each draws other places, orientations and noise.
        limit: write at most so many tiles, evenly spread over all.
        overwrite: write into folders that hold files already.
        trust: let preset files hold expressions and classes that are not registered: they are then programs.
        **overrides: any other id of the training config: ``scale``, ``tile``, ``seed``, ...

    Returns:
        The files written, sample by sample.

    Raises:
        InputError: before any work, for whatever a training would refuse, or a folder that holds files already.

    Example:
        >>> len(preprocess("images", "tiles", scale=4, tile=96, limit=3))  # an LR and an HR file each
        6
    """
    if epoch < 1 or (limit is not None and limit < 1):
        raise InputError(f"epoch {epoch}, limit {limit}: epochs count from 1, and a limit is at least 1 tile")
    check_folder(Path(out))
    config = _training_config(preset, {**overrides, "dataset_dir": str(Path(data).absolute())}, trust)
    lists: TileLists = _parsed(config, "lists")
    dataset: TileDataset = _parsed(config, "train#dataset")
    dataset.set_epoch(epoch)
    folders = _tile_folders(Path(out), dataset[0], overwrite)
    scale = dict(zip("ZYX", factors(_parsed(config, "scale")), strict=True))
    pixel_sizes = dict.fromkeys(folders, lists.pixel_size)
    pixel_sizes["image"] = {axis: size * scale[axis] for axis, size in lists.pixel_size.items()}
    load = next(transform for transform in dataset.transform.transforms if isinstance(transform, LoadTiled))
    chosen = np.linspace(0, len(dataset) - 1, min(limit or len(dataset), len(dataset))).round().astype(int).tolist()
    written = []
    for index in tqdm(chosen, desc="tiles", unit="tile", disable=None):
        sample = dataset[index]
        frame, window = load.place
        sheet = Path(dataset.data[index]["label"]).stem
        for key, folder in folders.items():
            path = folder / f"{index:06d}_{sheet}_frame{frame}_y{window.y}_x{window.x}.tif"
            tile, axes = (sample[key], "ZYX") if len(sample[key]) > 1 else (sample[key][0], "YX")
            write_image(path, np.asarray(tile), axes=axes, pixel_size=pixel_sizes[key], overwrite=overwrite)
            written.append(path)
    return written


def _tile_folders(out: Path, sample: Mapping[str, Any], overwrite: bool) -> dict[str, Path]:
    folders = {key: out / folder for key, folder in FOLDERS.items() if key in sample}
    for folder in folders.values():
        if folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise InputError(f"{folder}: holds files already; give another folder, or ask to overwrite them")
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    return folders


def preview(
    source: str | Path, *, preset: str | Sequence[str] | None = None, side: int = 256, seed: int = 0, **overrides: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Crappify the middle of an image file, at most ``side`` HR pixels wide, by the training config.

    Returns LR and HR ``(frames, Y, X)`` in [0, 1]: the middle frame or, where the scale has a factor for the frames,
    the HR frames around it that make four LR frames.
    """
    crappifying = _image_crappifier(preset, overrides)
    stack, (along_z, along_y, along_x) = crappifying.stack, factors(crappifying.scale)
    scales_of = crappifying.scales([Path(source)])
    with open_image(source, crappifying.axes, crappifying.image) as image:
        frames = frames_of(image.axes, image.shape, stack)
        count = min(4, frames.run // along_z) * along_z if along_z > 1 else 1
        first = frames.count // 2 // frames.run * frames.run + (frames.run - count) // 2
        height, width = plane_size(image)
        rows, columns = min(side, height) // along_y * along_y, min(side, width) // along_x * along_x
        window = Window((height - rows) // 2, (width - columns) // 2, rows, columns)
        scales = scales_of(image)
        hr = read_scaled(image, list(range(first, first + count)), window, scales, stack)
        limits = scales[frames.channel(first)].limits(image.dtype)
    return crappifying.crappify(hr, limits, seed), hr


def _training_config(
    preset: str | Sequence[str] | None, overrides: dict[str, Any], trust: bool = False
) -> ConfigParser:
    overrides = text_as_strings(overrides)
    config = ConfigParser()
    with with_settings(config_files("train", preset, trust), overrides) as files:
        check_overrides(files, overrides)
        config.read_config(files)
    config.update({"bundle_root": str(bundle_dir()), **overrides})
    return config


def _parsed(config: ConfigParser, name: str) -> Any:
    with plain_errors():
        return config.get_parsed_content(name)


def _image_crappifier(
    preset: str | Sequence[str] | None, overrides: dict[str, Any], trust: bool = False
) -> ImageCrappifier:
    config = _training_config(preset, overrides, trust)
    return ImageCrappifier(
        *(_parsed(config, name) for name in ("crappifier", "scale", "stack", "axes", "image", "intensity"))
    )


@dataclass(frozen=True)
class ImageCrappifier:
    """A crappifier, and how a training reads the images that it crappifies."""

    crappifier: Callable[..., Any]
    scale: int | Sequence[int]
    stack: str
    axes: str | None
    image: int | str | None
    intensity: IntensitySettings

    def crappify(self, hr: np.ndarray, limits: tuple[float, float], seed: int) -> np.ndarray:
        """The LR image ``(frames, Y, X)`` of an HR one; ``limits`` are those of the file on its scale."""
        transform = Crappifyd("hr", self.crappifier, "lr").set_random_state(seed=seed)
        return np.asarray(transform({"hr": torch.from_numpy(hr), "limits": limits})["lr"])

    def scales(self, files: Sequence[Path]) -> Callable[[LazyImage], tuple[Intensity, ...]]:
        """Check the files, and return what gives a file's scales as training fits them: for each file, or for all."""
        for file in files:
            with open_image(file, self.axes, self.image) as image:
                self.lr_shape(image)
        if self.intensity.scope == "dataset":
            shrink = factors(self.scale)[1:]
            shared = shared_intensity(files, self.intensity, self.stack, self.axes, self.image, shrink)
            return lambda image: (shared,)
        return self.scales_of

    def scales_of(self, image: LazyImage) -> tuple[Intensity, ...]:
        """The scales of the channels of one image."""
        return fit_image_intensity(image, self.intensity, self.stack, factors(self.scale)[1:])

    def lr_shape(self, image: LazyImage) -> tuple[int, ...]:
        frames = frames_of(image.axes, image.shape, self.stack)
        by_axis = frames.scale_by_axis(self.scale)
        shape = tuple(size // by_axis.get(axis, 1) for axis, size in zip(image.axes, image.shape, strict=True))
        if min(shape) < 1 or frames.run < factors(self.scale)[0]:
            sizes = " x ".join(str(size) for size in image.shape)
            raise InputError(
                f"{image.path.name}: {sizes} pixels ({image.axes}) are fewer than the scale {self.scale!r}"
            )
        return shape

    def write(
        self, image: LazyImage, target: Path, scales: Sequence[Intensity], seed: int, overwrite: bool = False
    ) -> None:
        """Write the LR image of an HR one, frame by frame; ``scales`` are those of its channels."""
        frames, shape = frames_of(image.axes, image.shape, self.stack), self.lr_shape(image)
        by_axis, sizes = frames.scale_by_axis(self.scale), dict(zip(image.axes, shape, strict=True))
        order = Frames(frames.order, tuple(sizes[axis] for axis in frames.order), frames.joint)
        lr_window = Window(0, 0, sizes["Y"], sizes["X"])
        along_z, along_y, along_x = factors(self.scale)
        window = Window(0, 0, lr_window.height * along_y, lr_window.width * along_x)
        if (window.height, window.width) != plane_size(image) or order.count * along_z != frames.count:
            logger.info("%s: cropped to what the scale %s divides", image.path.name, self.scale)
        if image.has_alpha:
            logger.info("%s: the opacity (alpha) is left out", image.path.name)
        with create_writer(
            target,
            shape=shape,
            dtype=image.dtype,
            axes=image.axes,
            pixel_size={axis: size * by_axis.get(axis, 1) for axis, size in image.pixel_size.items()},
            channel_names=image.channel_names,
            metadata=image.metadata.scaled(image.pixel_size, {axis: 1 / factor for axis, factor in by_axis.items()}),
            overwrite=overwrite,
        ) as writer:
            groups = tqdm(
                list(_groups(frames, along_z)), desc=image.path.name, unit="frame", disable=order.count < 2 or None
            )
            for number, (hr_frames, kept) in enumerate(groups):
                entropy = [seed, zlib.crc32(image.path.name.encode()), number]
                hr = read_scaled(image, hr_frames, window, scales, self.stack)
                limits = scales[order.channel(number)].limits(image.dtype)
                lr = self.crappify(hr, limits, int(np.random.SeedSequence(entropy).generate_state(1)[0]))
                if lr.shape[-2:] != (lr_window.height, lr_window.width):
                    raise InputError(
                        f"crappifier: shrinks {window.height} x {window.width} pixels to {lr.shape[-2]} x "
                        f"{lr.shape[-1]}, which is not by the scale {self.scale!r}; give both the same scale"
                    )
                grey = scales[order.channel(number)].cast(lr[kept], image.dtype)
                own = hr_frames[kept * along_z : (kept + 1) * along_z]
                grey = self._with_missing(image, own, window, scales[order.channel(number)].padding, grey)
                write_window(writer, order, number, lr_window, grey)

    def _with_missing(
        self, image: LazyImage, frames: Sequence[int], window: Window, padding: float | None, grey: np.ndarray
    ) -> np.ndarray:
        """An LR frame ``(Y, X)`` with what its HR frames hold where they have no data at all: padding, NaN."""
        if padding is None and image.dtype.kind != "f":
            return grey
        pixels = read_window(image, frames, window, self.stack)
        missing = without_data(pixels, padding)
        if missing is None:
            return grey
        _, along_y, along_x = factors(self.scale)
        height, width = grey.shape
        lost = missing.reshape(len(frames), height, along_y, width, along_x).all(axis=(0, 2, 4))
        return np.where(lost, pixels[0, ::along_y, ::along_x], grey)


def _groups(frames: Frames, along_run: int) -> Iterator[tuple[list[int], int]]:
    """Yield for each LR frame the HR frames that are crappified for it, and its number among the results.

    Where frames are shrunk, too, an antialiased one depends on its neighbours, which are therefore crappified with it.
    """
    for first in range(0, frames.count, frames.run):
        for number in range(frames.run // along_run):
            start, stop = number * along_run, (number + 1) * along_run
            low = max(0, start - along_run) if along_run > 1 else start
            high = min(frames.run // along_run * along_run, stop + along_run) if along_run > 1 else stop
            yield list(range(first + low, first + high)), (start - low) // along_run
