"""The description of a BioImage.IO package: its tensors and their axes, purpose, authors, citations and example."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

from pssr2_monai.errors import InputError
from pssr2_monai.export.formats import OPSET, TOLERANCE
from pssr2_monai.export.grey_levels import PackageSettings
from pssr2_monai.images.axes import factors, frames_of, is_volume
from pssr2_monai.images.image import open_image
from pssr2_monai.images.intensity import Intensity, dtype_limits
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
"""Cited in every package: the method, its predecessor, and the framework."""
EXAMPLE_SIDE_PX, VOLUME_EXAMPLE_SIDE_PX, VOLUME_EXAMPLE_DEPTH = 128, 80, 20  # in LR pixels
COVER_WIDTH_PX = 512
LONG_SIDE_PX = 10**6  # that no window covers whole


@dataclass(frozen=True)
class PackageImages:
    """The images that a package takes and returns."""

    record: Record
    intensity: Intensity  # grey levels of black and white
    dtype: str

    @property
    def stacked(self) -> bool:
        """Whether images have an axis Z: the frames of a sample, or the depth of a volume."""
        return is_volume(self.record.scale) or max(self.record.n_frames) > 1

    @property
    def axes(self) -> str:
        return "BCZYX" if self.stacked else "BCYX"  # a single frame is the channel

    @property
    def scale(self) -> dict[str, int]:
        """HR pixels for each LR pixel along Z, Y and X."""
        return dict(zip("ZYX", factors(self.record.scale), strict=True))

    @property
    def magnification(self) -> str:
        z, y, x = self.scale.values()
        return f"{x}x" if z == 1 and y == x else f"{z}x{y}x{x} (ZYX)"

    @property
    def halo(self) -> dict[str, int]:
        """LR pixels on each side that a window needs around its output, as restoring uses them."""
        volume = is_volume(self.record.scale)
        axes = SeamlessInferer(volume=volume).axes((LONG_SIDE_PX,) * 3)
        return dict(zip("ZYX" if volume else "YX", (axis.margin for axis in axes), strict=True))

    def min_size(self, axis: str) -> int:
        """Least LR pixels of an image, so that some remain when the halo is cut off; any larger size is possible."""
        halo = self.halo.get(axis)
        return self.record.n_frames[0] if halo is None else 2 * halo + 1

    def pixel_size_nm(self, axis: str) -> float | None:
        """Nanometres of an HR pixel; in float32, so that runners' products are whole numbers."""
        size = self.record.pixel_size.get(axis)
        return None if size is None else float(np.float32(size * 1000))


def describe(
    network: nn.Module, images: PackageImages, settings: PackageSettings, files: dict[str, str]
) -> dict[str, Any]:
    """Create the content of a package's ``rdf.yaml``; ``files`` are those of ``bioimageio.FILES`` and ``SAMPLES``."""
    from bioimageio.spec.model.v0_5 import ModelDescr

    kind = type(getattr(network, "network", network)).__name__  # without the wrapper for volumes
    restores = "Denoises" if max(images.scale.values()) == 1 else f"Restores at {images.magnification} the resolution"
    description = f"{restores} scans of point-scanning microscopes, after training on high-resolution images."
    tolerance = TOLERANCE * (images.intensity.high - images.intensity.low) / 255
    return {
        "type": "model",
        "format_version": str(ModelDescr.implemented_format_version),
        "name": settings.name or f"Point-scanning super-resolution {images.magnification} {kind}",
        "description": settings.description or description,
        "authors": [{"name": name.strip()} for name in settings.authors.split(";") if name.strip()],
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
                "model_parameter_count": sum(parameter.numel() for parameter in network.parameters()),
                "task": "super-resolution",
                # For integers one level more: two processors may round a value between two levels differently.
                "reproducibility_tolerance": [{"absolute_tolerance": tolerance + (images.dtype != "float32")}],
            },
            "pssr2_monai": json.loads(json.dumps(asdict(images.record))),
        },
    }


def add_hashes(content: Any, folder: Path) -> None:
    """Add the SHA-256 of every file to a description."""
    if isinstance(content, dict):
        if "source" in content:
            content["sha256"] = hashlib.sha256((folder / content["source"]).read_bytes()).hexdigest()
        content = list(content.values())
    if isinstance(content, list):
        for part in content:
            add_hashes(part, folder)


def documentation(content: dict[str, Any], images: PackageImages) -> str:
    sizes = {axis: images.pixel_size_nm(axis) for axis in "ZYX"}
    environment = Environment(loader=PackageLoader("pssr2_monai.export", ""), undefined=StrictUndefined)
    return environment.get_template("package_readme.md").render(
        **{key: content[key] for key in ("name", "description", "cite")},
        images=images,
        magnification=images.magnification,
        pixel_sizes=", ".join(f"{axis} {size:g} nm" for axis, size in sizes.items() if size is not None),
    )


def _tensor(name: str, images: PackageImages, files: dict[str, str], end: str) -> dict[str, Any]:
    data = {"type": images.dtype} | ({} if images.dtype == "float32" else {"range": list(dtype_limits(images.dtype))})
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


def _axis(axis: str, images: PackageImages, end: str) -> dict[str, Any]:
    """One axis of the input or the output, in the terms of the specification."""
    if axis == "B":
        return {"type": "batch"}
    if axis == "C":
        return {"type": "channel", "channel_names": ["intensity"]}
    factor, pixel_size = images.scale[axis], images.pixel_size_nm(axis)
    # For an unknown pixel size only the ratio of input and output is stated, without a unit.
    scale = (pixel_size or 1.0) * (factor if end == "input" else 1)
    description: dict[str, Any] = {"type": "space", "id": axis.lower(), "scale": scale}
    description |= {} if pixel_size is None else {"unit": "nanometer"}
    halo = images.halo.get(axis)
    if halo is None:  # the frames of a sample, whose number is fixed
        return description | {"size": images.record.n_frames[end == "output"]}
    if end == "input":
        return description | {"size": {"min": images.min_size(axis), "step": 1}}
    return description | {"size": {"tensor_id": "image", "axis_id": axis.lower()}, "halo": halo * factor}


def _citations(cite: str) -> dict[str, str]:
    citations = {}
    for entry in filter(None, (entry.strip() for entry in cite.split(";"))):
        match = re.fullmatch(r"(.+?),?\s+(?:doi:\s*|https?://doi\.org/)?(10\.\d{4,}/\S+)", entry)
        if match is None:
            raise InputError(f"--cite {entry!r}: ends with no DOI; write it as 'Author YEAR, Title 10.1234/abc'")
        citations[match[1]] = match[2]
    return citations


def example_of(images: PackageImages, path: str | Path | None) -> np.ndarray:
    """Return the middle of a scan, or without one an image with structure at several sizes, as ``(frames, Y, X)``."""
    frames, side = images.record.n_frames[0], EXAMPLE_SIDE_PX
    if is_volume(images.record.scale):
        frames, side = VOLUME_EXAMPLE_DEPTH, VOLUME_EXAMPLE_SIDE_PX
    if path is None:
        noise = np.random.default_rng(0).normal(size=(frames, side, side))
        texture = sum(gaussian_filter(noise, (sigma / 2, sigma, sigma)) * sigma for sigma in (1, 2, 4))
        return images.intensity.cast(0.5 + 0.4 * texture / np.abs(texture).max(), images.dtype)
    with open_image(path) as scan:
        order = frames_of(scan.axes, scan.shape, images.record.stack)
        order.check_n_frames(images.min_size("Z") if images.stacked else 1, scan.path.name, of_weights=True)
        frames = min(frames, order.run) if is_volume(images.record.scale) else frames
        height, width = (min(side, size) for size in plane_size(scan))
        if min(height, width) < images.min_size("Y"):
            raise InputError(
                f"{scan.path.name}: {height} x {width} pixels are too few for an example; give a scan of "
                f"{images.min_size('Y')} x {images.min_size('X')} or more"
            )
        y, x = ((size - length) // 2 for size, length in zip(plane_size(scan), (height, width), strict=True))
        window = Window(y, x, height, width)
        return read_window(scan, order.window(order.run // 2, frames), window, images.record.stack)


def cover_of(lr: np.ndarray, restored: np.ndarray) -> Image.Image:
    """Join the middle frames of two stacks ``(frames, Y, X)`` in one grey window, twice as wide as high."""
    lr_frame, restored_frame = (stack[len(stack) // 2].astype(np.float64) for stack in (lr, restored))
    picture = Image.fromarray(panel([lr_frame, restored_frame], *grey_window(restored_frame)))
    return picture.resize((COVER_WIDTH_PX, COVER_WIDTH_PX // 2), Image.Resampling.LANCZOS)
