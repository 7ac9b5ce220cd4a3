"""BioImage.IO packages: weights that take grey levels, a description and an example, tested by BioImage.IO itself."""

from __future__ import annotations

import json
import logging
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tifffile
import torch
from torch import Tensor, nn

from pssr2_monai.errors import InputError
from pssr2_monai.export.description import PackageImages, add_hashes, cover_of, describe, documentation, example_of
from pssr2_monai.export.formats import FORMATS, Case, largest_difference
from pssr2_monai.export.grey_levels import GreyLevels, PackageSettings, grey_scale
from pssr2_monai.images.axes import is_volume
from pssr2_monai.images.intensity import dtype_limits
from pssr2_monai.networks.record import Record

WEIGHTS = ("torchscript", "onnx")  # no runner of BioImage.IO reads those of torch.export
DESCRIPTION = "rdf.yaml"
FILES = {
    "torchscript": "weights.pt",
    "onnx": "weights.onnx",
    "input": "test_input.npy",
    "output": "test_output.npy",
    "cover": "cover.png",
    "documentation": "README.md",
}
SAMPLES = {"sample_input": "sample_input.tif", "sample_output": "sample_output.tif"}  # where the example is a scan
logger = logging.getLogger(__name__)


class Package:
    """A BioImage.IO package of a network for ``(batch, frames, Y, X)`` in [0, 1], with validated settings.

    Messages name the file of weights.
    """

    def __init__(self, network: nn.Module, record: Record, name: str, settings: PackageSettings) -> None:
        self.network = network
        self.images = PackageImages(record, *grey_scale(record, settings, name))
        low, high = self.images.intensity.low, self.images.intensity.high
        self.takes = f"takes {self.images.dtype} images, {low:g} is black and {high:g} white"
        self.example = example_of(self.images, settings.example)
        self.cover = Path(settings.cover) if settings.cover is not None else None
        self.files = FILES | (SAMPLES if settings.example is not None else {})
        if self.cover is not None:
            if not self.cover.is_file():
                raise InputError(f"--cover {self.cover}: there is no such file")
            self.files |= {"cover": f"cover{self.cover.suffix.lower()}"}
        self.content = describe(network, self.images, settings, self.files)
        _validate(self.content)

    def write(self, path: Path, cases: list[Case]) -> float:
        """Write the zip file, test it with ``bioimageio.core``, and return the largest difference from the network.

        The weights are compared at the sizes of the cases, in grey levels of 255, without the rounding of integers.
        """
        with TemporaryDirectory() as name:
            folder = Path(name)
            difference = self._write_weights(folder, cases)
            self._write_example(folder)
            text = documentation(self.content, self.images)
            (folder / self.files["documentation"]).write_text(text, encoding="utf-8")
            add_hashes(self.content, folder)
            (folder / DESCRIPTION).write_text(json.dumps(self.content), encoding="utf-8")  # JSON is a subset of YAML
            logger.info("testing the package with bioimageio.core")
            _write_tested(folder / DESCRIPTION, path)
        return difference

    def _write_weights(self, folder: Path, cases: list[Case]) -> float:
        images = self.images
        whole = GreyLevels(self.network, images.intensity, images.dtype, channel=images.stacked).eval()
        grey_cases = [self._in_grey_levels(image) for image, _ in cases]
        axes = {axis: number for number, axis in enumerate(images.axes)}
        free = {0: "batch", axes["Y"]: "height", axes["X"]: "width"}
        free |= {axes["Z"]: "depth"} if is_volume(images.record.scale) else {}
        record = json.dumps(images.record.state_dict())
        differences = []
        for kind in WEIGHTS:
            path = folder / self.files[kind]
            FORMATS[kind].write(deepcopy(whole), grey_cases[-1][0], free, path, record)
            differences.append(largest_difference(FORMATS[kind].read(path)[0], grey_cases))
        # Half a level is due to the rounding of integers, which the cases do not have.
        excess = float(np.max(differences)) - (0.5 if whole.whole else 0.0)
        return 0.0 if excess < 0 else excess * 255 / whole.span

    def _in_grey_levels(self, image: Tensor) -> Case:
        """An image in whole grey levels and the network's output, within the range of the dtype but not rounded."""
        images = self.images
        grey = images.intensity.cast(image, images.dtype)
        pred = np.clip(images.intensity.undo(self._run(grey)), *dtype_limits(images.dtype))
        case = [torch.from_numpy(pixels.astype(np.float32)) for pixels in (grey, pred)]
        return (case[0].unsqueeze(1), case[1].unsqueeze(1)) if images.stacked else (case[0], case[1])

    def _run(self, grey: np.ndarray) -> np.ndarray:
        """The network's output in [0, 1] for grey levels ``(batch, frames, Y, X)``."""
        with torch.inference_mode():
            pred: np.ndarray = self.network(torch.from_numpy(self.images.intensity.apply(grey))).numpy()
        return pred

    def _write_example(self, folder: Path) -> None:
        images, files = self.images, self.files
        restored = images.intensity.cast(self._run(self.example[None])[0], images.dtype)
        for end, stack in (("input", self.example), ("output", restored)):
            np.save(folder / files[end], stack[None, None] if images.stacked else stack[None])
            if f"sample_{end}" in files:
                tifffile.imwrite(folder / files[f"sample_{end}"], stack.squeeze(), compression="zlib")
        if self.cover is not None:
            shutil.copy(self.cover, folder / files["cover"])
        else:
            cover_of(self.example, restored).save(folder / files["cover"])


def _validate(content: dict[str, Any]) -> None:
    """Raise an InputError for what the specification rejects, before any file is written."""
    from bioimageio.spec import InvalidDescr, ValidationContext, build_description

    with _without_traces():
        context = ValidationContext(perform_io_checks=False, log_warnings=False)
        description = build_description(deepcopy(content), context=context)
    if isinstance(description, InvalidDescr):
        error = next(error for detail in description.validation_summary.details for error in detail.errors)
        option = next((str(part) for part in error.loc if part in content), "description")
        value = content[option] if isinstance(content[option], str) else json.dumps(content[option])
        raise InputError(f"--{option} {value[:100]}: the specification of BioImage.IO refuses it: {error.msg[:200]}")


def _write_tested(description: Path, path: Path) -> None:
    """Write the package and run the test that the collection of BioImage.IO runs."""
    from bioimageio.core import test_description
    from bioimageio.spec import save_bioimageio_package

    with _without_traces():
        save_bioimageio_package(description, output_path=path)
        summary = test_description(path, expected_type="model")
    if summary.status != "passed":
        errors = [error.msg for detail in summary.details for error in detail.errors]
        raise InputError(f"bioimageio.core: the package fails its test: {' '.join(' '.join(errors).split())[:300]}")


@contextmanager
def _without_traces() -> Iterator[None]:
    """Suppress the log messages of BioImage.IO's packages, and restore the random states that their test sets."""
    from loguru import logger as log

    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    log.disable("bioimageio")
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        log.enable("bioimageio")
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
