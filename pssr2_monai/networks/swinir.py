"""SwinIR, image restoration with shifted-window attention."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.networks.blocks import PixelShuffle, ordered, shuffled_upsampling, upsampling_steps, zero_
from pssr2_monai.networks.scaled import ScaledNetwork

UPSAMPLERS = ("pixelshuffle", "pixelshuffledirect", "nearest+conv", "")
MASKED = -100.0


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with a learnt bias for each relative position (Liu et al. 2021).

    Shifted windows at the far ends hold pixels from both ends of the image. What keeps those apart depends on the
    window's row and column alone, so the mask is one small table for the last row and one for the last column, and
    never grows with the image.
    """

    if TYPE_CHECKING:  # TorchScript cannot read annotations of buffers that are strings
        bias_index: Tensor
        row_mask: Tensor
        column_mask: Tensor

    def __init__(self, dim: int, heads: int, window: int, shift: int, qkv_bias: bool, qk_scale: float | None) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.shift = shift
        self.scale = qk_scale or (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.bias_table, std=0.02)
        row, column = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        row, column = row.flatten(), column.flatten()
        apart = (row[:, None] - row + window - 1) * (2 * window - 1) + column[:, None] - column + window - 1
        self.register_buffer("bias_index", apart.flatten(), persistent=False)
        for name, place in (("row_mask", row), ("column_mask", column)):
            wrapped = place >= window - shift
            mask = MASKED * (wrapped[:, None] != wrapped).float()
            self.register_buffer(name, mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`x` is ``(batch, rows, columns, window ** 2, dim)``, windows by their row and column in the image."""
        batch, rows, columns, pixels, dim = x.shape
        qkv = self.qkv(x).view(batch * rows * columns, pixels, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.bias_table.index_select(0, self.bias_index).view(1, pixels, pixels, self.heads)
        scores = (query * self.scale) @ key.transpose(-2, -1)
        if self.shift > 0:
            scores = scores.view(batch, rows, columns, self.heads, pixels, pixels)
            last_row = (torch.arange(rows, device=x.device) == rows - 1).view(rows, 1, 1, 1, 1)
            last_column = (torch.arange(columns, device=x.device) == columns - 1).view(columns, 1, 1, 1)
            scores += bias.permute(0, 3, 1, 2) + last_row * self.row_mask
            scores += last_column * self.column_mask
            scores = scores.view(batch * rows * columns, self.heads, pixels, pixels)
        else:
            scores += bias.permute(0, 3, 1, 2)
        mixed = scores.softmax(dim=-1).to(value.dtype) @ value
        return self.proj(mixed.transpose(1, 2).reshape(batch, rows, columns, pixels, dim))


class SwinBlock(nn.Module):
    """Window attention, then a two-layer perceptron, each normalised before and added to its input."""

    def __init__(self, dim: int, attention: WindowAttention, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.window = attention.window
        self.shift = attention.shift
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(dim)
        self.attention = attention
        self.norm2 = nn.LayerNorm(dim)
        inner = int(dim * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(dim, inner), nn.GELU(), nn.Linear(inner, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._dropped(self._attend(self.norm1(x)))
        return x + self._dropped(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor) -> Tensor:
        """Attention over the windows of ``(batch, Y, X, dim)``, which `window` divides."""
        batch, height, width, dim = x.shape
        size = self.window
        rows, columns = height // size, width // size
        if self.shift > 0:
            x = torch.roll(x, shifts=(-self.shift, -self.shift), dims=(1, 2))
        x = x.view(batch, rows, size, columns, size, dim).transpose(2, 3)
        x = self.attention(x.clone(memory_format=torch.contiguous_format).view(batch, rows, columns, size * size, dim))
        x = x.view(batch, rows, columns, size, size, dim).transpose(2, 3)
        x = x.clone(memory_format=torch.contiguous_format).view(batch, height, width, dim)
        if self.shift > 0:
            x = torch.roll(x, shifts=(self.shift, self.shift), dims=(1, 2))
        return x

    def _dropped(self, x: Tensor) -> Tensor:
        """Stochastic depth: in training the whole branch is left out for some samples of the batch."""
        if not self.training or self.drop_path == 0.0:
            return x
        keep = 1.0 - self.drop_path
        return x * (torch.rand([x.shape[0], 1, 1, 1], device=x.device) < keep).to(x.dtype) / keep


class SwinGroup(nn.Module):
    """Residual group: Swin blocks and a convolution, added to the input; all on ``(batch, Y, X, dim)``."""

    def __init__(self, blocks: Sequence[nn.Module], conv: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        # The permuted view is channels_last, which convolutions keep: nothing is copied.
        y = ordered(self.blocks(x).permute(0, 3, 1, 2))
        return ordered(self.conv(y).permute(0, 2, 3, 1)) + x


def body_conv(dim: int, kind: str) -> nn.Module:
    """The convolution at the end of a group: one of 3x3, or a bottleneck of three."""
    if kind == "1conv":
        return nn.Conv2d(dim, dim, kernel_size=3, padding=1)
    if kind != "3conv":
        raise InputError(f"conv: found {kind!r}; give '1conv' or '3conv'")
    inner = dim // 4
    return nn.Sequential(
        nn.Conv2d(dim, inner, kernel_size=3, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(inner, inner, kernel_size=1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(inner, dim, kernel_size=3, padding=1),
    )


class NearestUpsampling(nn.Module):
    """Nearest-neighbour enlargement and a convolution for each step of the scale, then one more convolution."""

    def __init__(self, features: int, scale: Sequence[int]) -> None:
        super().__init__()
        conv = partial(nn.Conv2d, features, features, kernel_size=3, padding=1)
        steps = upsampling_steps(scale)
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=tuple(map(float, step)), mode="nearest"), conv()) for step in steps
        )
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = F.leaky_relu(step(x), 0.2)
        return F.leaky_relu(self.conv(x), 0.2)


class SwinIR(ScaledNetwork):
    """SwinIR (Liang et al. 2021): groups of shifted-window attention at the input's size; 2-D only.

    The defaults are PSSR2's, 2.0 M parameters. The paper's lightweight network is ``embed_dim=60,
    depths=[6] * 4, heads=[6] * 4, upsampler="pixelshuffledirect"``, its medium one ``embed_dim=180, depths=[6] * 6,
    heads=[6] * 6``.

    Args:
        in_channels: frames of the input.
        out_channels: frames of the output; fewer than `in_channels` are the central ones (2.5D).
        scale: output size over input size.
        embed_dim: features throughout.
        depths: Swin blocks of each group.
        heads: attention heads of each group's blocks; each divides `embed_dim`.
        window: size of the attention windows in pixels; the input is extended to a multiple of it.
        mlp_ratio: hidden over outer width of the perceptrons.
        upsampler: ``"pixelshuffle"``, ``"pixelshuffledirect"`` (one step, few parameters), ``"nearest+conv"`` or, at
            scale 1, ``""`` for none.
        features: width of the reconstruction.
        conv: ``"1conv"`` or ``"3conv"`` at the end of each group.
        qkv_bias: a bias in the query, key and value layers.
        qk_scale: factor of query times key; None for one over the root of a head's width.
        patch_norm: normalise the first features.
        shifted: shift the windows of every second block by half.
        drop_path: stochastic depth of the last block in training, from 0 in the first.
        interpolate: predict what must be added to the linearly enlarged input; False predicts the image itself.
        value_range: what black (0) and white (1) are inside the network.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: int | Sequence[int] = 4,
        embed_dim: int = 96,
        depths: Sequence[int] = (4, 4, 4, 4),
        heads: Sequence[int] = (6, 6, 6, 6),
        window: int = 8,
        mlp_ratio: float = 2.0,
        upsampler: str = "pixelshuffle",
        features: int = 64,
        conv: str = "1conv",
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        patch_norm: bool = True,
        shifted: bool = True,
        drop_path: float = 0.1,
        interpolate: bool = True,
        value_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__(2, in_channels, out_channels, scale, interpolate, value_range, multiple=window)
        if not len(depths) or len(depths) != len(heads):
            raise InputError(f"heads: found {len(heads)} for {len(depths)} depths; give one a group")
        if any(embed_dim % count for count in heads):
            raise InputError(f"heads: found {list(heads)}; each must divide embed_dim {embed_dim}")
        self.first = nn.Conv2d(in_channels, embed_dim, kernel_size=3, padding=1)
        self.patch_norm = nn.LayerNorm(embed_dim) if patch_norm else nn.Identity()
        total = sum(depths)
        rates = [drop_path * i / max(total - 1, 1) for i in range(total)]
        shift = window // 2 if shifted else 0
        groups: list[nn.Module] = []
        for depth, count in zip(depths, heads, strict=True):
            blocks: list[nn.Module] = []
            for i in range(depth):
                attention = WindowAttention(embed_dim, count, window, shift * (i % 2), qkv_bias, qk_scale)
                blocks.append(SwinBlock(embed_dim, attention, mlp_ratio, rates.pop(0)))
            groups.append(SwinGroup(blocks, body_conv(embed_dim, conv)))
        self.groups = nn.Sequential(*groups)
        self.norm = nn.LayerNorm(embed_dim)
        self.after_body = body_conv(embed_dim, conv)
        self.reconstruction = reconstruction(upsampler, embed_dim, features, out_channels, self.scale)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if interpolate:
            zero_(self.reconstruction[0 if upsampler == "pixelshuffledirect" else -1])

    def features(self, x: Tensor) -> Tensor:
        x = self.first(x)
        tokens = self.norm(self.groups(self.patch_norm(ordered(x.permute(0, 2, 3, 1)))))
        return self.reconstruction(self.after_body(ordered(tokens.permute(0, 3, 1, 2))) + x)


def reconstruction(
    upsampler: str, embed_dim: int, features: int, out_channels: int, scale: Sequence[int]
) -> nn.Sequential:
    """From features to the image at `scale`, as the paper has it for each kind of task."""
    if upsampler not in UPSAMPLERS:
        raise InputError(f"upsampler: found {upsampler!r}; give one of {', '.join(map(repr, UPSAMPLERS))}")
    if upsampler == "":
        if max(scale) > 1:
            raise InputError(f"upsampler: none was asked for at scale {list(scale)}; give one, or scale 1")
        return nn.Sequential(nn.Conv2d(embed_dim, out_channels, kernel_size=3, padding=1))
    if upsampler == "pixelshuffledirect":
        group = scale[0] * scale[1]
        conv = nn.Conv2d(embed_dim, group * out_channels, kernel_size=3, padding=1)
        return nn.Sequential(conv, PixelShuffle(scale))
    before = nn.Sequential(nn.Conv2d(embed_dim, features, kernel_size=3, padding=1), nn.LeakyReLU(inplace=True))
    last = nn.Conv2d(features, out_channels, kernel_size=3, padding=1)
    if upsampler == "nearest+conv":
        return nn.Sequential(before, NearestUpsampling(features, scale), last)
    return nn.Sequential(before, shuffled_upsampling(2, features, scale), last)
