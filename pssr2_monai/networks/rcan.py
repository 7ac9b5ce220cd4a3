"""RCAN, the residual channel attention network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from monai.networks.blocks import ChannelSELayer
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from pssr2_monai.errors import InputError
from pssr2_monai.networks.blocks import shuffled_upsampling, zero_
from pssr2_monai.networks.scaled import ScaledNetwork


class Residual(nn.Module):
    """Modules in a row, added to their input."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class RCAN(ScaledNetwork):
    """Residual channel attention network (Zhang et al. 2018), 2-D or 3-D.

    Groups of attention blocks, each group and the whole with its own skip, at the input's size throughout; no
    normalisation. Channel attention means over the whole input, so that tiles of one image differ a little. The
    defaults are the paper's 15.6 M parameters; ``groups=5, blocks=5, features=32, reduction=8`` suits volumes.

    Args:
        in_channels: frames of the input.
        out_channels: frames of the output; fewer than `in_channels` are the central ones (2.5D).
        scale: output size over input size, one number or one for each axis.
        groups: residual groups.
        blocks: attention blocks of a group.
        features: channels throughout.
        reduction: what channel attention divides the channels by.
        spatial_dims: 2 (YX) or 3 (ZYX).
        interpolate: predict what must be added to the linearly enlarged input; False predicts the image itself.
        value_range: what black (0) and white (1) are inside the network.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: int | Sequence[int] = 4,
        groups: int = 10,
        blocks: int = 20,
        features: int = 64,
        reduction: int = 16,
        spatial_dims: int = 2,
        interpolate: bool = True,
        value_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__(spatial_dims, in_channels, out_channels, scale, interpolate, value_range)
        if not 1 <= reduction <= features:
            raise InputError(f"reduction: found {reduction}; give 1 to {features}, the number of features")
        if groups < 1 or blocks < 1:
            raise InputError(f"groups, blocks: found {groups} and {blocks}; give at least 1 each")
        conv = partial(Conv[Conv.CONV, spatial_dims], kernel_size=3, padding=1)

        def attention_block() -> Residual:
            first, second = conv(features, features), conv(features, features)
            return Residual(first, nn.ReLU(True), second, ChannelSELayer(spatial_dims, features, r=reduction))

        def group() -> Residual:
            return Residual(*(attention_block() for _ in range(blocks)), conv(features, features))

        self.head = conv(in_channels, features)
        tail = conv(features, features)
        self.body = Residual(*(group() for _ in range(groups)), tail)
        self.upsample = shuffled_upsampling(spatial_dims, features, self.scale)
        self.last = conv(features, out_channels)
        if interpolate:
            zero_(self.last)

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.upsample(self.body(self.head(x))))
