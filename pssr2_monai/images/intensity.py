"""Grey levels to [0, 1] and back, by one affine scale for a file or a data set, never for a tile or a slice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pssr2_monai.errors import InputError, nearest
from pssr2_monai.images.levels import black_and_white, middle
from pssr2_monai.images.outliers import mended, outlier_threshold
from pssr2_monai.images.padding import filled, padding_value, without_data

MODES = ("dtype", "percentile", "fixed")
SCOPES = ("file", "dataset")
EIGHT_BIT_STEP = 257  # by which 8-bit values are multiplied to span 16 bits


@dataclass(frozen=True)
class Intensity:
    """The grey levels that become 0 and 1.

    ``apply`` and ``cast`` return integers of up to 16 bits unchanged for any ``low`` and ``high`` within their range,
    since a float32 keeps the distance from ``low`` to one part in 2**24. Wider integers are rounded.

    Attributes:
        low: the black level, in grey levels of the file.
        high: the white level; above ``low``.
        outlier: how far an isolated pixel may lie from its neighbours, in grey levels; one beyond it is mended.
        padding: the value of areas without data, which are filled from their surroundings; None for none.

    Raises:
        InputError: ``low`` or ``high`` is not finite, or ``high`` is not above ``low``.
    """

    low: float
    high: float
    outlier: float = field(default=math.inf, compare=False)
    padding: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise InputError(f"intensity: low {self.low} and high {self.high} must be finite numbers")
        if self.high <= self.low:
            raise InputError(f"intensity: high {self.high:g} must lie above low {self.low:g}")
        if not math.isfinite(self.high - self.low):
            raise InputError(f"intensity: the range from {self.low:g} to {self.high:g} is too wide for a float")

    def apply(self, array: Any) -> Any:
        """``(array - low) / (high - low)`` as float32, for a numpy array or a tensor of any shape; not clipped.

        In a float array NaN and minus infinity become black and plus infinity white: through a network, one such pixel
        would spoil all within its receptive field.
        """
        span = self.high - self.low
        if not isinstance(array, (np.ndarray, np.generic)):
            return (array.float() - self.low) / span
        # float32 represents 16-bit values exactly, in half the memory; wider ones need float64.
        working = np.float32 if array.dtype.itemsize <= 2 else np.float64
        scaled: Any = np.asarray(array).astype(working)
        with np.errstate(over="ignore"):
            if self.low:  # 0 for 8-bit images: saves a pass over the pixels
                scaled -= self.low
            scaled /= span
            scaled = scaled.astype(np.float32, copy=False)
        if array.dtype.kind == "f":
            np.nan_to_num(scaled, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
        return scaled

    def measured(self, planes: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """``apply`` to planes ``(..., Y, X)`` of a file whose hot, dead and missing pixels are replaced first."""
        pixels = mended(planes, self.outlier)
        scaled: npt.NDArray[np.float32] = self.apply(filled(pixels, without_data(planes, self.padding)))
        return scaled

    def through(self, gain: float, offset: float) -> Intensity:
        """The scale of a partner image, of which ``gain * partner + offset`` has the grey levels of this scale."""
        low, high = ((level - offset) / gain for level in (self.low, self.high))
        return Intensity(low, high)

    def limits(self, dtype: npt.DTypeLike) -> tuple[float, float]:
        """The values that the least and the greatest number of a dtype have on this scale; infinite for floats."""
        least, greatest = ((end - self.low) / (self.high - self.low) for end in dtype_limits(dtype))
        return least, greatest

    def undo(self, array: Any) -> Any:
        """``array * (high - low) + low``: grey levels of the file, float64 for numpy arrays and float32 for tensors."""
        span = self.high - self.low
        if not isinstance(array, (np.ndarray, np.generic)):
            return array.float() * span + self.low
        grey = np.multiply(array, span, dtype=np.float64)
        grey += self.low
        return grey

    def cast(self, array: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Convert values of [0, 1] to grey levels of ``dtype``.

        Integers are rounded half to even and clipped to the range of the dtype; NaN becomes the black level, an
        infinity the end of the range. Floats are only cast; NaN stays NaN.

        Args:
            array: a numpy array or a tensor in CPU memory, of any shape.
            dtype: an integer or float dtype.

        Raises:
            InputError: the dtype is neither integer nor float.
        """
        target = np.dtype(dtype)
        _check_dtype(target, "dtype")
        grey = np.asarray(self.undo(np.asarray(array)))
        if target.kind == "f":
            with np.errstate(over="ignore"):
                return np.asarray(grey.astype(target))
        bottom, top = _float_limits(target)
        np.copyto(grey, self.low, where=np.isnan(grey))
        np.rint(grey, out=grey)
        np.clip(grey, bottom, top, out=grey)
        return grey.astype(target)


@dataclass(frozen=True)
class IntensitySettings:
    """How files are scaled to [0, 1].

    Attributes:
        mode: "dtype" spans the range of an integer dtype; "percentile" p0.1 to p99.9 of the means of small blocks (see
            ``levels.black_and_white``), which noise, hot pixels and padding do not move; "fixed" from ``low`` to
            ``high``; None is "dtype" for 8 bits, also within 16, and "percentile" otherwise. A constant image has its
            value as black level, and one grey level more as white level.
        low: the black level of "fixed".
        high: the white level of "fixed".
        offset: the offset of the camera in grey levels, 0 for none: the black level of "dtype", the least black level
            of "percentile". For "fixed", give it as ``low``.
        scope: "file" for one scale for each file, or "dataset" for one scale of all files of a training, which
            restoring then uses, too.

    Raises:
        InputError: an unknown scope.
    """

    mode: str | None = None
    low: float | None = None
    high: float | None = None
    offset: float = 0.0
    scope: str = "file"

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise InputError(f"intensity: scope {self.scope!r} is unknown; use {' or '.join(SCOPES)}")

    def fit(
        self,
        sample: npt.NDArray[Any] | Sequence[npt.NDArray[Any]],
        dtype: npt.DTypeLike,
        name: str = "image",
        shrink: Sequence[int] = (1, 1),
    ) -> Intensity:
        """The intensity scale of a channel of a file, or of a data set.

        Args:
            sample: windows ``(Y, X)`` of its pixels; for large images, a part is enough.
            dtype: of the file.
            name: the file name, for messages.
            shrink: pixels along Y and X to average first: for HR images, those of an LR pixel, so that their scale is
                that which LR images made from them have.

        Raises:
            InputError: a complex or boolean dtype, an unknown mode, "dtype" for floats, ``low`` or ``high`` missing or
                given for another mode, an offset that leaves no range, or a sample without a finite value.
        """
        file_dtype = np.dtype(dtype)
        _check_dtype(file_dtype, name)
        windows = [sample] if isinstance(sample, np.ndarray) else list(sample)
        mode = self._mode(file_dtype)
        if self.mode is None and _are_eight_bits(windows, file_dtype):
            mode = "dtype"
        if mode not in MODES:
            raise InputError(
                f"{name}: intensity mode {mode!r} is unknown{nearest(str(mode), MODES)} ({', '.join(MODES)})"
            )
        outlier = outlier_threshold([middle(window) for window in windows if window.ndim == 2])
        if mode == "fixed":
            levels = self._fixed(name)
        elif self.low is not None or self.high is not None:
            raise InputError(
                f"{name}: intensity low and high need mode 'fixed', not {mode!r}; set the mode, or leave them out"
            )
        elif mode == "dtype":
            levels = self._levels(mode, windows, file_dtype, name, shrink)
        else:  # without outliers, of which a stuck line has more than the levels themselves leave out
            clean = [mended(window, outlier) if window.ndim == 2 else window for window in windows]
            levels = self._levels(mode, clean, file_dtype, name, shrink)
        return replace(levels, outlier=outlier, padding=padding_value(windows))

    def _levels(
        self, mode: str, windows: Sequence[npt.NDArray[Any]], dtype: np.dtype[Any], name: str, shrink: Sequence[int]
    ) -> Intensity:
        if mode == "dtype":
            black, white = _dtype_range(dtype, name)
        else:
            levels = black_and_white([shrunk(window, shrink) for window in windows])
            if levels is None:
                content = "only NaN or infinite pixels" if any(window.size for window in windows) else "no pixels"
                raise InputError(f"{name}: holds {content} and has no intensity range; check the file")
            black, white = levels
        if self.offset:
            black = float(self.offset) if mode == "dtype" else max(black, float(self.offset))
        if not black < white:
            raise InputError(
                f"{name}: offset {self.offset:g} is not below the white level {white:g}; give a smaller one, or none"
            )
        return Intensity(black, white)

    def needs_sample(self, dtype: npt.DTypeLike) -> bool:
        """Whether the scale depends on pixels, not only on the dtype and the settings."""
        return self._mode(np.dtype(dtype)) == "percentile"

    def _mode(self, dtype: np.dtype[Any]) -> str:
        return self.mode or ("dtype" if dtype.kind in "iu" and dtype.itemsize == 1 else "percentile")

    def _fixed(self, name: str) -> Intensity:
        if self.low is None or self.high is None:
            raise InputError(f"{name}: intensity mode 'fixed' needs low and high, got low={self.low}, high={self.high}")
        if self.offset:
            raise InputError(
                f"{name}: intensity mode 'fixed' takes no offset, got {self.offset:g}; give it as low instead"
            )
        try:
            return Intensity(float(self.low), float(self.high))
        except InputError as error:
            raise InputError(f"{name}: {error}") from None


def _check_dtype(dtype: np.dtype[Any], name: str) -> None:
    if dtype.kind not in "iuf":
        raise InputError(f"{name}: pixels of type {dtype} have no grey levels; convert them to integers or floats")


def _dtype_range(dtype: np.dtype[Any], name: str) -> tuple[float, float]:
    if dtype.kind == "f":
        raise InputError(
            f"{name}: intensity mode 'dtype' has no range for {dtype} pixels; "
            "use 'percentile', or 'fixed' with low and high"
        )
    return dtype_limits(dtype)


def _are_eight_bits(windows: Sequence[npt.NDArray[Any]], dtype: np.dtype[Any]) -> bool:
    """Whether 16-bit pixels are those of an 8-bit image times 257, whose scale is that of the 8-bit image."""
    if dtype != np.uint16 or not any(window.any() for window in windows):
        return False
    return not any((window % EIGHT_BIT_STEP).any() for window in windows)


def dtype_limits(dtype: npt.DTypeLike) -> tuple[float, float]:
    """The least and the greatest number of a dtype; infinite for floats."""
    if np.dtype(dtype).kind == "f":
        return -math.inf, math.inf
    info = np.iinfo(dtype)
    return float(info.min), float(info.max)


def shrunk(window: npt.NDArray[Any], shrink: Sequence[int]) -> npt.NDArray[Any]:
    """The means of the pixels of a window ``(Y, X)`` that lie within one larger pixel."""
    along_y, along_x = shrink
    if along_y * along_x == 1 or window.ndim < 2 or window.shape[0] < along_y or window.shape[1] < along_x:
        return window
    rows, columns = window.shape[0] // along_y, window.shape[1] // along_x
    whole = window[: rows * along_y, : columns * along_x].reshape(rows, along_y, columns, along_x)
    return np.asarray(whole.mean(axis=(1, 3), dtype=np.float64))


def _float_limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The range of an integer dtype in floats that cast back into it: 2**63 - 1 would round up to 2**63 and wrap."""
    info = np.iinfo(dtype)
    top = float(info.max)
    return float(info.min), top if int(top) <= info.max else math.nextafter(top, 0.0)
