"""How an image file is read: which of its images, its axes, pixel size, intensity scale, noise and tiles."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pssr2_monai.data.datalists import TileSettings
from pssr2_monai.images.axes import frames_of, sample_centres
from pssr2_monai.images.contents import described
from pssr2_monai.images.image import open_image
from pssr2_monai.images.noise_estimates import noise_level
from pssr2_monai.images.windows import fit_image_intensity, grid, plane_size, sample_pixels


@dataclass(frozen=True)
class ImageInfo:
    """How an image file is read."""

    path: str
    image: str  # which of the images of the file this is
    images: tuple[str, ...]  # all of them: number, name, shape, type and axes
    axes: str  # letters out of TZCYX in the file's order
    shape: tuple[int, ...]  # along these axes
    dtype: str
    pixel_size: dict[str, float]  # micrometres along the axes for which it is known
    channel_names: tuple[str, ...]  # as far as known
    alpha: bool  # whether the file has opacity, which is none of the channels
    bar_rows: int  # rows of the data bar below the image, which is no part of the shape
    least: tuple[float, ...]  # smallest value of a sample of the pixels, of each channel
    greatest: tuple[float, ...]  # greatest value of that sample
    noise: tuple[float, ...]  # estimated standard deviation of the noise in the file's grey levels
    black: tuple[float, ...]  # value that becomes 0
    white: tuple[float, ...]  # value that becomes 1
    frames: int  # number of planes
    run: int  # number of neighbouring frames, which limits n_frames
    tiles: int  # of a frame
    samples: int  # tiles times their central frames

    def __str__(self) -> str:
        sizes = [f"{axis} {size:g}" for axis, size in self.pixel_size.items()]
        unknown = [axis for axis in self.axes if axis in "ZYX" and axis not in self.pixel_size]
        words = asdict(self) | {
            "shape": " x ".join(map(str, self.shape)),
            "pixel_size": ", ".join([*sizes, *(f"{axis} unknown" for axis in unknown)]) + " (micrometres)",
            "channel_names": ", ".join(self.channel_names) or "unknown",
            "alpha": "opacity, which is none of the channels" if self.alpha else "none",
            "bar_rows": f"{self.bar_rows} (the data bar below the image, left out)" if self.bar_rows else "none",
            "images": f"\n{'':15}".join(self.images),
        }
        return "\n".join(
            f"{name.replace('_', ' '):14} {', '.join(f'{v:g}' for v in value) if isinstance(value, tuple) else value}"
            for name, value in words.items()
        )


def describe(path: str | Path, settings: TileSettings | None = None) -> ImageInfo:
    """Describe how a file is read, and the tiles that a training would take from it.

    Args:
        path: an image file.
        settings: how it would be tiled; by default as a training does.

    Returns:
        Axes, shape, data type and pixel size (micrometres); range, noise and black and white level in the file's grey
        levels; numbers of frames and tiles.

    Raises:
        InputError: the file cannot be read, or has fewer frames than asked for.

    Example:
        >>> info = describe("scans/cell_0.tif")
        >>> info.axes, info.shape, info.dtype, info.pixel_size
        ('YX', (48, 48), 'uint8', {'Y': 0.04, 'X': 0.04})
    """
    settings = settings or TileSettings()
    with open_image(path, settings.axes, settings.image) as image:
        scales = fit_image_intensity(image, settings.intensity, settings.stack)
        frames = frames_of(image.axes, image.shape, settings.stack)
        samples = [list(sample_pixels(image, settings.stack, channel)) for channel in range(frames.channels)]
        finite = [np.concatenate([window[np.isfinite(window)] for window in windows]) for windows in samples]
        frames.check_n_frames(settings.label_frames, image.path.name)
        tiles = len(grid(plane_size(image), settings.tile, settings.overlap))
        return ImageInfo(
            path=str(path),
            image=image.place.removeprefix("image "),
            images=tuple(described(image.entries)),
            axes=image.axes,
            shape=image.shape,
            dtype=str(image.dtype),
            pixel_size=dict(image.pixel_size),
            channel_names=image.channel_names,
            alpha=image.has_alpha,
            bar_rows=image.bar_rows,
            least=tuple(float(values.min()) for values in finite),
            greatest=tuple(float(values.max()) for values in finite),
            noise=tuple(float(np.nanmedian([noise_level(window) for window in windows])) for windows in samples),
            black=tuple(scale.low for scale in scales),
            white=tuple(scale.high for scale in scales),
            frames=frames.count,
            run=frames.run,
            tiles=tiles,
            samples=tiles * len(sample_centres(frames, settings.label_frames, settings.slide)),
        )
