"""Laying a network over an image or a volume that is larger than it takes at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer, sliding_window_inference
from torch.nn.functional import pad

from pssr2_monai.errors import InputError
from pssr2_monai.networks.blocks import rounded_up
from pssr2_monai.precision import choose_precision, in_precision
from pssr2_monai.tiles import blend_weights

__all__ = ["SeamlessInferer"]

BAR_FROM = 20
"""Windows from which on a single image gets a progress bar of its own."""

GRID = 32
"""Windows begin at multiples of this in Y and X: a network that pools gives another output where its grid lies
otherwise."""

DEPTH, DEPTH_GRID = 48, 8
"""Frames of a window of a volume, and what its first one is a multiple of."""


class SeamlessInferer(Inferer):
    """Sliding windows blended without seams, inside the image and at its border.

    MONAI's own weights give the outermost pixels of a window, which saw zeros instead of their surroundings, a share
    that shows as lines at small overlaps, and leave the image's border to them alone. Here a quarter of the overlap at
    each edge of a window counts for nothing, the weights rise along a cosine over the rest, and the image is enlarged
    by reflection first. An axis along which the image fits into one window goes through the network whole.

    Args:
        window: side of the windows in LR pixels; by default 256, of volumes 96.
        overlap: share of a window that it has in common with its neighbour, at least 0.25.
        batch_size: windows that go through the network at a time.
        precision: see ``precision.choose_precision``.
        volume: whether the frames are the depth of a volume, divided into windows, too.
    """

    def __init__(
        self,
        window: int | None = None,
        overlap: float = 0.25,
        batch_size: int = 1,
        precision: str = "auto",
        volume: bool = False,
    ) -> None:
        super().__init__()
        window = window or (96 if volume else 256)
        if not 0.25 <= overlap < 1:
            raise InputError(f"overlap: {overlap} is not in [0.25, 1); less would show the windows' borders")
        if window < 2 * GRID or window % GRID:
            raise InputError(f"window: {window} LR pixels; take a multiple of {GRID}, at least {2 * GRID}")
        self.windows = (DEPTH, window, window) if volume else (window, window)
        self.grids = (DEPTH_GRID, GRID, GRID) if volume else (GRID, GRID)
        self.shared = [
            side - max(grid, int(side * (1 - overlap)) // grid * grid)
            for side, grid in zip(self.windows, self.grids, strict=True)
        ]
        self.batch_size = batch_size
        self.precision = precision
        self.volume = volume

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Restores ``(batch, frames, Y, X)``; the output is larger by the network's scale, in float32."""
        in_dtype = in_precision(network, choose_precision(self.precision, inputs.device))
        inputs = inputs.float()
        if not self.volume:
            return self._restored(inputs, lambda windows: in_dtype(windows, *args, **kwargs))
        # Frames are an axis to slide along here, and channels to the network.
        return self._restored(inputs[:, None], lambda windows: in_dtype(windows[:, 0], *args, **kwargs)[:, None])[:, 0]

    def _restored(self, inputs: torch.Tensor, predict: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """``(batch, channels, [Z,] Y, X)``, window by window."""
        sizes = inputs.shape[2:]
        whole = [size <= window for size, window in zip(sizes, self.windows, strict=True)]
        if all(whole):
            return predict(inputs)
        before = [
            0 if fits else rounded_up(each // 2, grid)
            for fits, each, grid in zip(whole, self.shared, self.grids, strict=True)
        ]
        after = [
            0 if fits else rounded_up(size, grid) - size + margin
            for fits, size, grid, margin in zip(whole, sizes, self.grids, before, strict=True)
        ]
        reflects = all(margin < size for margin, size in zip(after, sizes, strict=True))
        # Pairs of margins, the last axis first, as torch's padding wants them.
        margins = [side for pair in zip(reversed(before), reversed(after), strict=True) for side in pair]
        enlarged = pad(inputs, margins, mode="reflect" if reflects else "replicate")
        roi = [min(window, size) for window, size in zip(self.windows, enlarged.shape[2:], strict=True)]
        output: torch.Tensor = sliding_window_inference(
            enlarged,
            roi,
            self.batch_size,
            predict,
            # Half a pixel less, so that no rounding moves the windows off the grid.
            overlap=[(shared - 0.5) / window for shared, window in zip(self.shared, self.windows, strict=True)],
            progress=sys.stderr.isatty() and enlarged[0, 0].numel() > BAR_FROM * torch.Size(self.windows).numel(),
            roi_weight_map=self._weights(roi, whole).to(inputs.device),
        )
        cut = [slice(None), slice(None)]
        for axis, (size, margin) in enumerate(zip(sizes, before, strict=True)):
            scale = output.shape[axis + 2] // enlarged.shape[axis + 2]
            cut.append(slice(margin * scale, (margin + size) * scale))
        return output[tuple(cut)]

    def _weights(self, roi: list[int], whole: list[bool]) -> torch.Tensor:
        """The weight of each pixel of a window of this size; the same along axes that have one window."""
        weights = torch.ones(())
        for side, shared, fits in zip(roi, self.shared, whole, strict=True):
            edge = 0 if fits else shared // 4
            ramp = 0 if fits else shared - 2 * edge
            along = torch.from_numpy(blend_weights(side - 2 * edge, ramp))
            # Not quite nothing: outside the image, in what is cut off, an edge may be all that there is.
            weights = weights[..., None] * pad(along, (edge, edge), value=1e-6).clamp(min=1e-6)
        return weights
