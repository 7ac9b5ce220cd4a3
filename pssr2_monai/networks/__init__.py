"""Networks that restore images at exactly `scale` times their size."""

from __future__ import annotations

from pssr2_monai.networks.nafnet import NAFNet
from pssr2_monai.networks.rcan import RCAN
from pssr2_monai.networks.rdresunet import RDResUNet, RDResUNetA
from pssr2_monai.networks.restormer import ScaledRestormer
from pssr2_monai.networks.resunet import ResUNet, ResUNetA
from pssr2_monai.networks.scaled import AsVolume, ScaledNetwork
from pssr2_monai.networks.swinir import SwinIR
from pssr2_monai.networks.weights import load_pssr2
from pssr2_monai.registered_names import register

__all__ = [
    "RCAN",
    "AsVolume",
    "NAFNet",
    "RDResUNet",
    "RDResUNetA",
    "ResUNet",
    "ResUNetA",
    "ScaledNetwork",
    "ScaledRestormer",
    "SwinIR",
    "load_pssr2",
]

register("network", AsVolume, NAFNet, RCAN, RDResUNet, RDResUNetA, ResUNet, ResUNetA, ScaledRestormer, SwinIR)
