"""BioImage.IO packages: weights that take grey levels, their description and an example, which its own core tests."""

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
from pssr2_monai.export.check import Case, largest_difference
from pssr2_monai.export.description import Images, add_hashes, describe, example_of, picture_of, read_me
from pssr2_monai.export.formats import FORMATS
from pssr2_monai.export.grey_levels import GreyLevels, PackageSettings, grey_scale, limits
from pssr2_monai.images.axes import is_volume
from pssr2_monai.networks.record import Record

WEIGHTS = ("torchscript", "onnx")
"""The formats of the weights inside: those of torch.export no runner of BioImage.IO knows."""
DESCRIPTION = "rdf.yaml"
FILES = {
    "torchscript": "weights.pt",
    "onnx": "weights.onnx",
    "input": "test_input.npy",
    "output": "test_output.npy",
    "cover": "cover.png",
    "documentation": "README.md",
}
SAMPLES = {"sample_input": "sample_input.tif", "sample_output": "sample_output.tif"}
"""What is beside them where the example is of a microscope: for people to look at."""
logger = logging.getLogger(__name__)


class Package:
    """A BioImage.IO package that is ready to be written: all that a user may have got wrong has been looked at.

    Args:
        network: in evaluation mode, takes and gives ``(batch, frames, Y, X)`` in [0, 1].
        record: of its weights.
        name: of the file of weights, for messages.
        settings: what the package says of itself, and which images it takes.

    Raises:
        InputError: a setting that the specification refuses, an example that does not fit, or grey levels that cannot
            be settled.
    """

    suffix = ".zip"

    def __init__(self, network: nn.Module, record: Record, name: str, settings: PackageSettings) -> None:
        self.network = network
        self.images = Images(record, *grey_scale(record, settings, name))
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
        _check(self.content)

    def write(self, path: Path, tried: list[Case]) -> float:
        """Writes the package and lets ``bioimageio.core`` test it.

        Args:
            path: of the zip file.
            tried: images in [0, 1], at whose sizes the weights are run beside the network.

        Returns:
            The largest difference from the network, in grey levels of 255; of integers beyond their rounding.

        Raises:
            InputError: the test fails.
        """
        with TemporaryDirectory() as name:
            folder = Path(name)
            difference = self._write_weights(folder, tried)
            self._write_example(folder)
            (folder / self.files["documentation"]).write_text(read_me(self.content, self.images), encoding="utf-8")
            add_hashes(self.content, folder)
            # Of YAML, JSON is a part.
            (folder / DESCRIPTION).write_text(json.dumps(self.content), encoding="utf-8")
            logger.info("testing it with bioimageio.core")
            _write_tested(folder / DESCRIPTION, path)
        return difference

    def _write_weights(self, folder: Path, tried: list[Case]) -> float:
        images = self.images
        whole = GreyLevels(self.network, images.intensity, images.dtype, channel=images.stacked).eval()
        expected = [self._in_grey_levels(image) for image, _ in tried]
        last = len(images.axes) - 1
        free = {0: "batch", last - 1: "height", last: "width"} | (
            {2: "depth"} if is_volume(images.record.scale) else {}
        )
        found = []
        for kind in WEIGHTS:
            path = folder / self.files[kind]
            FORMATS[kind].write(deepcopy(whole), expected[-1][0], free, path, json.dumps(images.record.state_dict()))
            found.append(largest_difference(FORMATS[kind].read(path)[0], expected))
        # Of whole numbers half a level is due to their rounding, which the expected ones have not seen.
        beyond = float(np.max(found)) - (0.5 if whole.whole else 0.0)
        return 0.0 if beyond < 0 else beyond * 255 / whole.span

    def _in_grey_levels(self, image: Tensor) -> Case:
        """An image in whole grey levels, and what becomes of it: within the range of the dtype, but not rounded."""
        images = self.images
        grey = images.intensity.cast(image, images.dtype)
        pred = np.clip(images.intensity.undo(self._run(grey)), *limits(images.dtype))
        before, after = (torch.from_numpy(each.astype(np.float32)) for each in (grey, pred))
        return (before.unsqueeze(1), after.unsqueeze(1)) if images.stacked else (before, after)

    def _run(self, grey: np.ndarray) -> np.ndarray:
        """What the network makes of grey levels ``(batch, frames, Y, X)``, in [0, 1]."""
        with torch.inference_mode():
            pred: np.ndarray = self.network(torch.from_numpy(self.images.intensity.apply(grey))).numpy()
        return pred

    def _write_example(self, folder: Path) -> None:
        images, files = self.images, self.files
        restored = images.intensity.cast(self._run(self.example[None])[0], images.dtype)
        for end, stack in (("input", self.example), ("output", restored)):
            # Of a single frame the axis is the channel's.
            np.save(folder / files[end], stack[None, None] if images.stacked else stack[None])
            if f"sample_{end}" in files:
                tifffile.imwrite(folder / files[f"sample_{end}"], stack.squeeze(), compression="zlib")
        if self.cover is not None:
            shutil.copy(self.cover, folder / files["cover"])
        else:
            picture_of(self.example, restored).save(folder / files["cover"])


def _check(content: dict[str, Any]) -> None:
    """Refuses what the specification refuses, before any file is written."""
    from bioimageio.spec import InvalidDescr, ValidationContext, build_description

    with _unnoticed():
        context = ValidationContext(perform_io_checks=False, log_warnings=False)
        described = build_description(deepcopy(content), context=context)
    if isinstance(described, InvalidDescr):
        error = next(each for detail in described.validation_summary.details for each in detail.errors)
        option = next((str(part) for part in error.loc if part in content), "description")
        given = content[option]
        shown = given if isinstance(given, str) else json.dumps(given)
        raise InputError(f"--{option} {shown[:100]}: the specification of BioImage.IO refuses it: {error.msg[:200]}")


def _write_tested(description: Path, path: Path) -> None:
    """Writes the package and runs the test that the collection of BioImage.IO runs, too."""
    from bioimageio.core import test_description
    from bioimageio.spec import save_bioimageio_package

    with _unnoticed():
        save_bioimageio_package(description, output_path=path)
        summary = test_description(path, expected_type="model")
    if summary.status != "passed":
        errors = [each.msg for detail in summary.details for each in detail.errors]
        raise InputError(f"bioimageio.core: the package fails its test: {' '.join(' '.join(errors).split())[:300]}")


@contextmanager
def _unnoticed() -> Iterator[None]:
    """Keeps back what the packages of BioImage.IO log, and gives back the random state that their test sets."""
    from loguru import logger as log

    drawn, drawn_by_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    log.disable("bioimageio")
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        log.enable("bioimageio")
        random.setstate(drawn)
        np.random.set_state(drawn_by_numpy)  # noqa: NPY002
