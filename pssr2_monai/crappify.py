"""Crappifiers: what makes a low-resolution, noisy scan out of a high-resolution image.

The order is PSSR2's (Stites and Manor 2024): downsample first, add noise afterwards. Noise added before downsampling is
averaged away by it, and leaves the training inputs too clean.

Images are ``(..., Y, X)`` arrays or tensors with values in [0, 1]. The noises are those of ``pssr2_monai.noises``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.transforms import Randomizable, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from torch.nn.functional import interpolate

from pssr2_monai.errors import InputError

__all__ = ["Crappify", "Downsample"]

_SEED_END = 2**32 - 1


class Downsample(Transform):
    """Shrinks Y and X by a whole factor, antialiased bilinear: ``PIL.Image.resize(BILINEAR)`` without its rounding.

    Args:
        scale: how many HR pixels make one LR pixel along Y and along X; 1 leaves the image as it is.

    Example:
        >>> import numpy as np
        >>> Downsample(scale=4)(np.ones((1, 64, 48), dtype=np.float32)).shape
        (1, 16, 12)
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(self, scale: int) -> None:
        if scale != int(scale) or scale < 1:
            raise InputError(f"scale: {scale!r} is not a whole number of at least 1")
        self.scale = int(scale)

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Shrinks ``img`` (..., Y, X).

        Raises:
            InputError: Y or X does not divide by the scale.
        """
        if self.scale == 1:
            return img
        height, width = img.shape[-2:]
        if height % self.scale or width % self.scale:
            raise InputError(
                f"an image of {height} x {width} pixels does not divide by the scale {self.scale}; crop it"
            )
        size = (height // self.scale, width // self.scale)
        hr = convert_to_tensor(img, dtype=torch.float32, track_meta=False)
        lr = interpolate(hr.reshape(1, -1, height, width), size, mode="bilinear", antialias=True)
        return convert_to_dst_type(lr.reshape(*img.shape[:-2], *size), img, dtype=torch.float32)[0]


class Crappify(Randomizable, Transform):
    """Makes an LR image from an HR one: downsampling, then one noise after another, clipped after each.

    Args:
        scale: HR size over LR size; 1 for denoising alone.
        noises: transforms that take and return an image in [0, 1] at LR size, applied in turn.
        clip: whether what leaves the detector's range is cut off after each noise: [0, 1], or as far beyond it as the
            clean image reaches, where 1 is a percentile and not the detector's limit.

    Example:
        >>> import numpy as np
        >>> from pssr2_monai.noises import PoissonNoise
        >>> crappify = Crappify(scale=4, noises=[PoissonNoise(intensity=(0.5, 1.0))]).set_random_state(seed=0)
        >>> crappify(np.full((1, 128, 128), 0.5, dtype=np.float32)).shape
        (1, 32, 32)
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(
        self, scale: int, noises: Sequence[Callable[[NdarrayOrTensor], NdarrayOrTensor]] = (), clip: bool = True
    ) -> None:
        self.downsample = Downsample(scale)
        self.noises = tuple(noises)
        self.clip = clip

    @property
    def scale(self) -> int:
        """HR size over LR size."""
        return self.downsample.scale

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Crappify:
        """Seeds this crappifier, and each of its noises from it."""
        super().set_random_state(seed=seed, state=state)
        for noise in self.noises:
            if isinstance(noise, Randomizable):
                noise.set_random_state(seed=int(self.R.randint(_SEED_END, dtype=np.uint32)))
        return self

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Crappifies ``img``, ``(frames, Y, X)`` or ``(batch, frames, Y, X)`` in [0, 1]."""
        lr = self.downsample(img)
        low, high = min(0.0, float(lr.min())), max(1.0, float(lr.max()))
        for noise in self.noises:
            lr = noise(lr)
            if self.clip:
                lr = lr.clip(low, high)
        return lr
