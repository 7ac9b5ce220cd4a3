"""Crappifiers, which make a low-resolution, noisy scan of a high-resolution image.

The order is PSSR2's (Stites and Manor 2024): downsample first, add noise afterwards. Noise added before downsampling is
averaged away by it, and leaves the training inputs too clean.

Images are ``(..., Y, X)`` arrays or tensors with values in [0, 1]. The noises are those of ``pssr2_monai.crappify``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.transforms import Randomizable, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from torch.nn.functional import avg_pool2d, interpolate

from pssr2_monai.crappify.distributions import Distribution, Parameter, distribution_of, places_of
from pssr2_monai.crappify.noise import Noise
from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import factors
from pssr2_monai.randomness import Seeded

DOWNSAMPLINGS = ("bilinear", "area", "nearest")
_SEED_END = 2**32 - 1


class Downsample(Transform):
    """Shrink an image by a whole factor for each axis.

    Args:
        scale: number of HR pixels for each LR pixel along Y and along X, 1 for the image as it is; or three numbers for
            Z, Y and X, which take the frames for a volume.
        mode: ``bilinear``, antialiased as in ``PIL.Image.resize(BILINEAR)``, without its rounding; ``area``, the mean
            of the HR pixels; ``nearest``, the HR pixel at (or half a pixel after) their centre alone, as a raster with
            wider steps records it.

    Example:
        >>> import numpy as np
        >>> Downsample(scale=4)(np.ones((1, 64, 48), dtype=np.float32)).shape
        (1, 16, 12)
        >>> Downsample(scale=[4, 1, 1], mode="nearest")(np.ones((8, 64, 48), dtype=np.float32)).shape
        (2, 64, 48)
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(self, scale: int | Sequence[int], mode: str = "bilinear") -> None:
        if mode not in DOWNSAMPLINGS:
            raise InputError(f"downsample: {mode!r} is unknown; use {', '.join(DOWNSAMPLINGS)}")
        self.factors = factors(scale)
        self.scale = scale
        self.mode = mode

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Shrink ``img`` (..., Y, X), or (..., Z, Y, X) where Z is scaled, too.

        Raises:
            InputError: an axis does not divide by its factor.
        """
        along_z, along_y, along_x = self.factors
        if max(self.factors) == 1:
            return img
        depth = img.shape[-3] if along_z > 1 else 1
        height, width = img.shape[-2:]
        if depth % along_z or height % along_y or width % along_x:
            sizes = " x ".join(str(side) for side in img.shape[-3 if along_z > 1 else -2 :])
            raise InputError(f"an image of {sizes} pixels does not divide by the scale {self.scale}; crop it")
        lr = convert_to_tensor(img, dtype=torch.float32, track_meta=False)
        if along_y > 1 or along_x > 1:
            planes = self._shrink(lr.reshape(1, -1, height, width), along_y, along_x)
            lr = planes.reshape(*img.shape[:-2], *planes.shape[-2:])
        if along_z > 1:
            # As one image of Z by all pixels of a plane, of which only the first axis shrinks.
            columns = self._shrink(lr.reshape(1, -1, depth, lr.shape[-2] * lr.shape[-1]), along_z, 1)
            lr = columns.reshape(*img.shape[:-3], depth // along_z, *lr.shape[-2:])
        return convert_to_dst_type(lr, img, dtype=torch.float32)[0]

    def _shrink(self, planes: torch.Tensor, along_y: int, along_x: int) -> torch.Tensor:
        if self.mode == "area":
            return avg_pool2d(planes, (along_y, along_x))
        if self.mode == "nearest":
            return planes[..., along_y // 2 :: along_y, along_x // 2 :: along_x]
        size = (planes.shape[-2] // along_y, planes.shape[-1] // along_x)
        return interpolate(planes, size, mode="bilinear", antialias=True)


class Crappify(Seeded, Transform):
    """Make an LR image from an HR one: downsampling, then one noise after another, clipped after each.

    Args:
        scale: HR size over LR size, one number or one for each of Z, Y and X; 1 for denoising alone.
        noises: transforms that take and return an image in [0, 1] at LR size, applied in turn.
        clip: whether to clip to the detector's range after each noise: by default [0, 1], or as far beyond it as the
            clean image reaches. Each image of a batch has its own range. A mapping says how far the range goes
            ``below`` 0 and ``above`` 1, in units of what lies between; see ``Parameter`` for its values.
        downsample: ``bilinear``, ``area`` or ``nearest``; see ``Downsample``.

    Raises:
        InputError: an unknown downsampling or scale, or a noise that is not callable; in the call, an image that does
            not divide by the scale.

    Source:
        Stites and Manor 2024 (PSSR2): noise comes after downsampling; in PSSR (Fang et al. 2021) it came before.

    Example:
        >>> import numpy as np
        >>> from pssr2_monai.crappify import PoissonNoise
        >>> crappify = Crappify(scale=4, noises=[PoissonNoise(intensity=(0.5, 1.0))]).set_random_state(seed=0)
        >>> crappify(np.full((1, 128, 128), 0.5, dtype=np.float32)).shape
        (1, 32, 32)
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(
        self,
        scale: int | Sequence[int],
        noises: Sequence[Callable[[NdarrayOrTensor], NdarrayOrTensor]] = (),
        clip: bool | Mapping[str, Parameter] = True,
        downsample: str = "bilinear",
    ) -> None:
        self.downsample = Downsample(scale, downsample)
        for noise in noises:
            if not callable(noise):
                raise InputError(f"noises: {noise!r} is not a noise; give transforms such as PoissonNoise()")
        self.noises = tuple(noises)
        self.clip = bool(clip)
        self.beyond = _beyond(clip) if isinstance(clip, Mapping) else None

    @property
    def scale(self) -> int | Sequence[int]:
        return self.downsample.scale

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Crappify:
        """Seed this crappifier, and each of its noises from it."""
        super().set_random_state(seed=seed, state=state)
        for noise in self.noises:
            if isinstance(noise, Randomizable):
                noise.set_random_state(seed=int(self.R.randint(_SEED_END, dtype=np.uint32)))
        return self

    def __call__(self, img: NdarrayOrTensor, limits: NdarrayOrTensor | Sequence[float] = (0.0, 1.0)) -> NdarrayOrTensor:
        """Crappify ``img``, ``(frames, Y, X)`` or ``(batch, frames, Y, X)`` in [0, 1].

        ``limits`` are the ends of the detector's range, ``(2,)`` or ``(batch, 2)``: where 0 and 1 are percentiles of
        the image, an integer file ends beyond them, and a file of floats does not end. A mapping ``clip`` comes first.
        """
        lr = self.downsample(img)
        drawn = [how for noise in self.noises if isinstance(noise, Noise) for how in noise.parameters.values()]
        places = places_of(lr, self.R, [*drawn, *(self.beyond or {}).values()])  # one for all
        if self.beyond is not None:
            below, above = (self.beyond[end].draw(self.R, places) for end in ("below", "above"))
            ends = np.stack([-below, 1 + above], axis=-1)
            limits = ends if lr.ndim >= 4 else ends[0]
        low, high = _limits(lr, limits)
        for noise in self.noises:
            if isinstance(noise, Noise):
                noise.randomize(lr, places)
                lr = noise(lr, randomize=False)
            else:
                lr = noise(lr)
            if self.clip:
                lr = lr.clip(low, high)
        return lr


def crappified(
    crappifier: Callable[..., NdarrayOrTensor], images: NdarrayOrTensor, limits: NdarrayOrTensor | None = None
) -> NdarrayOrTensor:
    """Images through any crappifier; a ``Crappify`` learns the limits of the detector where they are known."""
    if limits is not None and isinstance(crappifier, Crappify):
        return crappifier(images, limits)
    return crappifier(images)


def _beyond(clip: Mapping[str, Parameter]) -> dict[str, Distribution]:
    """How far the detector's range goes beyond black and white; nothing where it is not said."""
    if not clip or clip.keys() - {"below", "above"}:
        raise InputError(f"clip: found {', '.join(map(str, clip)) or 'nothing'}; give true, false, or below and above")
    return {end: distribution_of(f"clip: {end}", clip.get(end, 0.0), 0.0, math.inf) for end in ("below", "above")}


def _limits(clean: NdarrayOrTensor, detector: NdarrayOrTensor | Sequence[float]) -> tuple[Any, Any]:
    """The range that each image of a batch is clipped to, its own alone, to broadcast against it; without NaN."""
    axes = tuple(range(1 if clean.ndim >= 4 else 0, clean.ndim))
    ends = torch.as_tensor(detector, dtype=torch.float32)
    low, high = (end.reshape(end.shape + (1,) * (clean.ndim - end.ndim)) for end in (ends[..., 0], ends[..., 1]))
    if isinstance(clean, torch.Tensor):
        low, high = low.to(clean), high.to(clean)
        return torch.fmin(clean.amin(axes, keepdim=True), low), torch.fmax(clean.amax(axes, keepdim=True), high)
    return np.fmin(clean.min(axes, keepdims=True), low.numpy()), np.fmax(clean.max(axes, keepdims=True), high.numpy())
