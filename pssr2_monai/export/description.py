"""The description of a BioImage.IO package: its tensors with their axes, what it is, who made it, what to cite."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

from pssr2_monai.errors import InputError
from pssr2_monai.export.check import TOLERANCE
from pssr2_monai.export.formats import OPSET
from pssr2_monai.export.grey_levels import PackageSettings, limits
from pssr2_monai.images.axes import factors, frames_of, is_volume
from pssr2_monai.images.image import open_image
from pssr2_monai.images.intensity import Intensity
from pssr2_monai.images.pictures import grey_window, panel
from pssr2_monai.images.windows import Window, plane_size, read_window
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.inferer import SeamlessInferer

CITATIONS = {
    "Stites and Manor 2024, PSSR2, BMC Methods 1": "10.1186/s44330-024-00020-5",
    "Fang et al. 2021, Deep learning-based point-scanning super-resolution imaging, Nature Methods 18": (
        "10.1038/s41592-021-01080-z"
    ),
    "Cardoso et al. 2022, MONAI": "10.48550/arXiv.2211.02701",
}
"""What is cited in every package: the method, what it came from, and the framework."""
LONG = 10**6
"""Pixels of an image that no window holds whole."""


@dataclass(frozen=True)
class Images:
    """What a package takes and gives.

    Attributes:
        record: of the weights.
        intensity: the grey levels of black and white.
        dtype: of the images.
    """

    record: Record
    intensity: Intensity
    dtype: str

    @property
    def stacked(self) -> bool:
        """Whether an image has an axis Z: the frames of a sample, or the depth of a volume."""
        return is_volume(self.record.scale) or max(self.record.n_frames) > 1

    @property
    def axes(self) -> str:
        """The axes of both tensors: of the single frame the channel takes the place."""
        return "BCZYX" if self.stacked else "BCYX"

    @property
    def scale(self) -> dict[str, int]:
        """HR over LR pixels along Z, Y and X."""
        return dict(zip("ZYX", factors(self.record.scale), strict=True))

    @property
    def halo(self) -> dict[str, int]:
        """LR pixels on each side that a window needs around what it gives, as restoring takes them."""
        volume = is_volume(self.record.scale)
        axes = SeamlessInferer(volume=volume).axes((LONG,) * 3)
        return dict(zip("ZYX" if volume else "YX", (axis.margin for axis in axes), strict=True))

    def least(self, axis: str) -> int:
        """LR pixels that an image has at least, so that some are left when the halo is cut off; any more will do."""
        halo = self.halo.get(axis)
        return self.record.n_frames[0] if halo is None else 2 * halo + 1

    def pixel_size_nm(self, axis: str) -> float | None:
        """Of the HR image, in nanometres; rounded so that sizes are whole numbers when runners multiply with it."""
        known = self.record.pixel_size.get(axis)
        return None if known is None else float(np.float32(known * 1000))


def describe(network: nn.Module, images: Images, settings: PackageSettings, files: dict[str, str]) -> dict[str, Any]:
    """The content of the package's ``rdf.yaml``.

    Args:
        network: of which the class and the number of parameters are told.
        images: what it takes and gives.
        settings: of the package.
        files: the names of ``torchscript``, ``onnx``, ``input``, ``output``, ``cover`` and ``documentation``, and,
            where there are any, ``sample_input`` and ``sample_output``.

    Raises:
        InputError: a citation without a DOI.
    """
    record, kind = images.record, _kind(network)
    restores = "Denoises" if max(factors(record.scale)) == 1 else f"Restores at {_times(record)} the resolution"
    name = f"Point-scanning super-resolution {_times(record)} {kind}"
    description = f"{restores} scans of point-scanning microscopes, after training on high-resolution images."
    tolerance = TOLERANCE * (images.intensity.high - images.intensity.low) / 255
    return {
        "type": "model",
        "format_version": _format_version(),
        "name": settings.name or name,
        "description": settings.description or description,
        "authors": [{"name": each.strip()} for each in settings.authors.split(";") if each.strip()],
        "license": settings.license,
        "cite": [{"text": text, "doi": doi} for text, doi in (CITATIONS | _citations(settings.cite)).items()],
        "tags": ["super-resolution", "denoising", "image-restoration", "3d" if images.stacked else "2d", "pytorch"],
        "documentation": {"source": files["documentation"]},
        "covers": [{"source": files["cover"]}],
        "inputs": [_tensor("image", images, files, "input")],
        "outputs": [_tensor("pred", images, files, "output")],
        "weights": {
            "torchscript": {"source": files["torchscript"], "pytorch_version": torch.__version__.split("+")[0]},
            "onnx": {"source": files["onnx"], "opset_version": OPSET, "parent": "torchscript"},
        },
        "config": {
            "bioimageio": {
                "architecture_type": kind[:32],
                "model_parameter_count": sum(each.numel() for each in network.parameters()),
                "task": "super-resolution",
                # Beside the half level that rounding may add, where two processors lie on two sides of it.
                "reproducibility_tolerance": [{"absolute_tolerance": tolerance + (images.dtype != "float32")}],
            },
            "pssr2_monai": json.loads(json.dumps(asdict(record))),
        },
    }


def add_hashes(content: Any, folder: Path) -> None:
    """Adds to every file of a description its SHA-256."""
    if isinstance(content, dict):
        if "source" in content:
            content["sha256"] = hashlib.sha256((folder / content["source"]).read_bytes()).hexdigest()
        content = list(content.values())
    if isinstance(content, list):
        for each in content:
            add_hashes(each, folder)


def read_me(content: dict[str, Any], images: Images) -> str:
    """The package's documentation, from its description."""
    low, high = images.intensity.low, images.intensity.high
    cited = "\n".join(f"- {each['text']}, doi:{each['doi']}" for each in content["cite"])
    known = {axis: images.pixel_size_nm(axis) for axis in "ZYX"}
    sizes = ", ".join(f"{axis} {size:g} nm" for axis, size in known.items() if size is not None)
    return f"""# {content["name"]}

{content["description"]}

## Images

Takes {images.dtype} grey levels and gives them on the same scale; {low:g} is black and {high:g} white. The scale
is inside the network: hand it the pixels as the microscope wrote them. The output is {_times(images.record)} as
large, its pixel size {sizes or "unknown"}. Images of another kind or pixel size it does not restore well.

## Training

A network learned to undo what a crappifier does to good images: downsampling, then noise. Its parameters, and all
else that was recorded, are in `config: pssr2_monai` of this package's `rdf.yaml`.

## Validation

Restore scans of which you have a good image of the same place, and compare with interpolation: `pssr2 evaluate`, of
the package pssr2-monai, does so with intervals and a verdict. Do not measure, in restored images, structures that are
smaller than a pixel of the scan or hidden in its noise: a network restores what is likely, not what is there. Not for
diagnosis.

## Cite

{cited}
"""


def _tensor(name: str, images: Images, files: dict[str, str], end: str) -> dict[str, Any]:
    low, high = limits(images.dtype)
    data = {"type": images.dtype} | ({} if images.dtype == "float32" else {"range": [low, high]})
    casts = [{"id": "ensure_dtype", "kwargs": {"dtype": dtype}} for dtype in (images.dtype, "float32")]
    tensor = {
        "id": name,
        "axes": [_axis(axis, images, end) for axis in images.axes],
        "test_tensor": {"source": files[end]},
        "data": data,
        # The network computes in float32; its scale and its rounding are inside.
        "preprocessing" if end == "input" else "postprocessing": casts if end == "input" else casts[:1],
    }
    return tensor | ({"sample_tensor": {"source": files[f"sample_{end}"]}} if f"sample_{end}" in files else {})


def _axis(axis: str, images: Images, end: str) -> dict[str, Any]:
    """One axis of the input or the output, in the words of the specification."""
    if axis == "B":
        return {"type": "batch"}
    if axis == "C":
        return {"type": "channel", "channel_names": ["intensity"]}
    factor, known = images.scale[axis], images.pixel_size_nm(axis)
    described: dict[str, Any] = {"type": "space", "id": axis.lower()}
    # Of an unknown pixel size the ratio alone is told, without a unit.
    described |= {"scale": (known or 1.0) * (factor if end == "input" else 1)}
    described |= {} if known is None else {"unit": "nanometer"}
    halo = images.halo.get(axis)
    if halo is None:  # the frames of a sample: neither more nor fewer
        return described | {"size": images.record.n_frames[end == "output"]}
    if end == "input":
        return described | {"size": {"min": images.least(axis), "step": 1}}
    return described | {"size": {"tensor_id": "image", "axis_id": axis.lower()}, "halo": halo * factor}


def _kind(network: nn.Module) -> str:
    """The name of the network's class; of one that is wrapped for volumes, of the one inside."""
    inner = getattr(network, "network", network)
    return type(inner).__name__


def _times(record: Record) -> str:
    along = factors(record.scale)
    return f"{along[2]}x" if along[0] == 1 and along[1] == along[2] else "x".join(map(str, along)) + " (ZYX)"


def _citations(cite: str) -> dict[str, str]:
    found = {}
    for entry in filter(None, (each.strip() for each in cite.split(";"))):
        match = re.fullmatch(r"(.+?),?\s+(?:doi:\s*|https?://doi\.org/)?(10\.\d{4,}/\S+)", entry)
        if match is None:
            raise InputError(f"--cite {entry!r}: ends with no DOI; write it as 'Author YEAR, Title 10.1234/abc'")
        found[match[1]] = match[2]
    return found


def _format_version() -> str:
    from bioimageio.spec.model.v0_5 import ModelDescr

    return str(ModelDescr.implemented_format_version)


SIDE, VOLUME_SIDE, DEPTH = 128, 80, 20
"""LR pixels of an example: of planes, and of volumes with their depth."""
COVER = 512


def example_of(images: Images, path: str | Path | None) -> np.ndarray:
    """The middle of a scan, or an image with structure at several sizes, ``(frames, Y, X)``.

    Raises:
        InputError: the scan is too small, or has too few frames.
    """
    volume = is_volume(images.record.scale)
    frames, side = (DEPTH, VOLUME_SIDE) if volume else (images.record.n_frames[0], SIDE)
    if path is None:
        noise = np.random.default_rng(0).normal(size=(frames, side, side))
        texture = sum(gaussian_filter(noise, (sigma / 2, sigma, sigma)) * sigma for sigma in (1, 2, 4))
        return images.intensity.cast(0.5 + 0.4 * texture / np.abs(texture).max(), images.dtype)
    with open_image(path) as scan:
        order = frames_of(scan.axes, scan.shape, images.record.stack)
        order.check_n_frames(images.least("Z") if images.stacked else 1, scan.path.name)
        run = min(frames, order.run) if volume else frames
        height, width = (min(side, size) for size in plane_size(scan))
        if min(height, width) < images.least("Y"):
            raise InputError(
                f"{scan.path.name}: {height} x {width} pixels are too few for an example; give a scan of "
                f"{images.least('Y')} x {images.least('X')} or more"
            )
        y, x = ((size - part) // 2 for size, part in zip(plane_size(scan), (height, width), strict=True))
        return read_window(scan, order.window(order.run // 2, run), Window(y, x, height, width), images.record.stack)


def picture_of(lr: np.ndarray, restored: np.ndarray) -> Image.Image:
    """The middle frames side by side in one grey window, twice as wide as high.

    Args:
        lr: ``(frames, Y, X)``.
        restored: likewise, each axis a whole number of times as long.
    """
    before, after = (stack[len(stack) // 2].astype(np.float64) for stack in (lr, restored))
    picture = Image.fromarray(panel([before, after], *grey_window(after)))
    return picture.resize((COVER, COVER // 2), Image.Resampling.LANCZOS)
