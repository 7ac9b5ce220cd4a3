"""Networks that restore images at exactly `scale` times their size."""

from __future__ import annotations

from pssr2_monai.networks.resunet import ResUNet

__all__ = ["ResUNet"]
