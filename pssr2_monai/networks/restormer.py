"""Restormer, attention between channels."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from monai.networks.blocks.cablock import CABlock
from monai.networks.nets.restormer import MDTATransformerBlock, Restormer
from torch import Tensor, nn
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.networks.blocks import ChannelNorm, PixelShuffle, zero_
from pssr2_monai.networks.scaled import ScaledNetwork


class ChannelAttention(nn.Module):
    """The attention of a block of MONAI's Restormer, computed around each pixel instead of over the whole input.

    The channels of a cell attend to each other by their products within that cell; what a pixel takes from the
    attention of its own cell and of its neighbours is interpolated linearly between their middles.

    Args:
        block: whose layers are used.
        side: of the cells, an even number that divides the input's size; None for one that is the whole input.
    """

    def __init__(self, block: CABlock, side: int | None) -> None:
        super().__init__()
        self.qkv = block.qkv
        self.qkv_dwconv = block.qkv_dwconv
        self.project_out = block.project_out
        self.temperature = block.temperature
        self.heads = block.num_heads
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        query, key, value = self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        along_y, along_x = (self.side, self.side) if self.side else (height, width)
        query, key = (F.normalize(self._cells(part, along_y, along_x), dim=-1) for part in (query, key))
        attention = ((query @ key.transpose(-2, -1)) * self.temperature).softmax(dim=-1)
        if self.side is None:
            mixed = attention @ self._cells(value, height, width)
            return self.project_out(self._image(mixed, height, width))
        half = self.side // 2
        value = self._cells(value, half, half)
        rows, columns = (_neighbours(attention.shape[axis], half, value) for axis in (1, 2))
        mixed = torch.zeros_like(value)
        for row, by_row in rows:
            for column, by_column in columns:
                weight = (by_row[:, None, :, None] * by_column[:, None, :]).flatten(2)[:, :, None, None]
                mixed = mixed + attention.index_select(1, row).index_select(2, column) @ (value * weight)
        return self.project_out(self._image(mixed, half, half))

    def _cells(self, x: Tensor, along_y: int, along_x: int) -> Tensor:
        """From ``(batch, channels, Y, X)`` to ``(batch, rows, columns, heads, channels of a head, pixels)``."""
        batch, channels, height, width = x.shape
        x = x.view(batch, self.heads, channels // self.heads, height // along_y, along_y, width // along_x, along_x)
        # A reshape would copy, too, but an exported program would have to decide by the sizes whether.
        return x.permute(0, 3, 5, 1, 2, 4, 6).clone(memory_format=torch.contiguous_format).flatten(5)

    def _image(self, cells: Tensor, along_y: int, along_x: int) -> Tensor:
        """The inverse of `_cells`."""
        x = cells.unflatten(5, (along_y, along_x)).permute(0, 3, 4, 1, 5, 2, 6)
        return x.clone(memory_format=torch.contiguous_format).flatten(5, 6).flatten(3, 4).flatten(1, 2)


def _neighbours(cells: int, half: int, like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each half of each cell along an axis: its own cell and the nearer neighbour, with the weights of its pixels.

    Returns:
        Twice the numbers of cells, ``(2 * cells,)``, and weights, ``(2 * cells, half)``.
    """
    ramp = (torch.arange(half, device=like.device, dtype=torch.float32) + 0.5) / (2 * half)
    weight = torch.stack([ramp.flip(0), ramp]).repeat(cells, 1).to(like.dtype)
    number = torch.arange(2 * cells, device=like.device)
    own = number // 2
    other = (own + number % 2 * 2 - 1).clamp(min=0).minimum(own.max())
    return [(own, 1 - weight), (other, weight)]


class ScaledRestormer(ScaledNetwork):
    """MONAI's Restormer (Zamir et al. 2022) at any scale: a U-Net whose channels attend to each other; 2-D only.

    Two parts of MONAI's network depend on all of an image at once. Attention is computed over a neighbourhood of each
    pixel instead, in training, too, and normalisation over the channels of each pixel, as in the paper: a pixel then
    does not depend on how an image is divided into windows. It cannot be exported as TorchScript.

    Args:
        in_channels: frames of the input.
        out_channels: frames of the output; fewer than `in_channels` are the central ones (2.5D).
        scale: output size over input size, one number or one for each axis.
        width: features of the finest level, a multiple of 4; twice as many at each one below.
        blocks: of each level, from the finest; two numbers or more.
        heads: attention heads of each level.
        refinement: blocks at the end.
        expansion: hidden over outer width of the feed-forward layers.
        neighbourhood: side in pixels of the cells whose attention is interpolated between, a divisor of 32, since
            windows begin at its multiples; None for one attention of the whole input, as in the paper.
        fold: 2 works at half the size inside (see `ResUNet`).
        interpolate: predict what must be added to the linearly enlarged input; False predicts the image itself.
        value_range: what black (0) and white (1) are inside the network.

    Raises:
        InputError: numbers that do not go together; see each argument.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: int | Sequence[int] = 4,
        width: int = 48,
        blocks: Sequence[int] = (4, 6, 6, 8),
        heads: Sequence[int] = (1, 2, 4, 8),
        refinement: int = 4,
        expansion: float = 2.66,
        neighbourhood: int | None = 32,
        fold: int = 1,
        interpolate: bool = True,
        value_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        if len(blocks) < 2 or len(blocks) != len(heads) or min([refinement, fold, *blocks, *heads]) < 1:
            raise InputError(
                f"blocks, heads, refinement, fold: found {list(blocks)}, {list(heads)}, {refinement} and {fold}; give "
                "numbers of at least 1, as many for heads as for blocks and at least two"
            )
        if width < 4 or width % 4 or any(width * 2**level % count for level, count in enumerate(heads)):
            raise InputError(
                f"width, heads: found {width} and {list(heads)}; width must divide by 4, and each level's features, "
                "twice those of the one above, by its heads"
            )
        coarsest = fold * 2 ** (len(blocks) - 1)
        if neighbourhood is not None and (neighbourhood < 1 or neighbourhood % (2 * coarsest)):
            raise InputError(
                f"neighbourhood: found {neighbourhood}; give None or a multiple of {2 * coarsest}, twice the pixels of "
                f"one at the coarsest of {len(blocks)} levels with fold {fold}"
            )
        multiple = neighbourhood or coarsest
        super().__init__(
            2, in_channels, out_channels, scale, interpolate, value_range, multiple, padded_min=2 * coarsest
        )
        self.fold = fold
        enlarged = [fold * factor for factor in self.scale]
        inputs, outputs = in_channels * fold**2, out_channels * prod(enlarged)
        self.restormer = Restormer(
            2, inputs, outputs, width, tuple(blocks), tuple(heads), refinement, expansion, layer_norm_use_bias=True
        )
        parts = [*self.restormer.encoder_levels, self.restormer.latent]
        parts += [*reversed(self.restormer.decoder_levels), self.restormer.refinement]
        levels = [*range(len(blocks)), *range(len(blocks) - 1), 0]
        for level, part in zip(levels, parts, strict=True):
            side = neighbourhood // (fold * 2**level) if neighbourhood else None
            for block in part:
                assert isinstance(block, MDTATransformerBlock)
                block.norm1, block.norm2 = (ChannelNorm(norm.num_features) for norm in (block.norm1, block.norm2))
                block.attn = ChannelAttention(block.attn, side)
        self.shuffle = PixelShuffle(enlarged)
        if interpolate:
            zero_(self.restormer.output)

    def features(self, x: Tensor) -> Tensor:
        if self.fold > 1:
            x = F.pixel_unshuffle(x, self.fold)
        return self.shuffle(self.restormer(x))
