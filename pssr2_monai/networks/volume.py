"""3-D networks for images whose frames are their depth."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["AsVolume"]


class AsVolume(nn.Module):
    """Lets a 3-D network restore runs of frames: ``(batch, frames, Y, X)`` in and out, the frames being its Z.

    So a volume passes through the same transforms, losses and metrics as planes do.

    Args:
        network: takes and gives ``(batch, 1, Z, Y, X)``, each axis of the output its scale times as long.

    Example:
        >>> import torch
        >>> from pssr2_monai.networks import ResUNet
        >>> network = AsVolume(ResUNet(channels=[8, 16], depth=1, scale=[4, 1, 1], spatial_dims=3))
        >>> network(torch.rand(1, 8, 32, 32)).shape
        torch.Size([1, 32, 32, 32])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        restored: Tensor = self.network(x.unsqueeze(1))
        return restored.squeeze(1)
