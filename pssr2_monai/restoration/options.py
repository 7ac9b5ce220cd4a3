"""The options of restoring: described, validated and merged in this place alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pssr2_monai.errors import InputError, UsageError, nearest
from pssr2_monai.images.axes import factors, is_volume

if TYPE_CHECKING:
    from pssr2_monai.networks.record import Record
    from pssr2_monai.restoration.inferer import SeamlessInferer

BARS = ("keep", "crop")


@dataclass(frozen=True)
class RestoreOptions:
    """How images are restored: the options of ``restore`` and of all that restores as it does.

    Attributes:
        window: Largest side of the windows in LR pixels, a multiple of 32; by default 640, for volumes 96. Smaller
            windows take less memory.
        overlap: Share of a window that it has in common with the next, below 1; by default 64 LR pixels, for windows
            below 256 a quarter, which is the least.
        orientations: 8 restores each window in its eight flips and turns and writes their mean: less noise left, mostly
            0.1 to 0.2 dB better, in eight times the time; 4 leaves out those with Y and X swapped.
        precision: auto, float32 or bfloat16; with backend openvino also int8, twice as fast on most processors.
        backend: torch, or openvino, which is faster on some processors.
        device: cpu, cuda, cuda:1 and so on; by default a GPU where there is one, for several workers one each.
        axes: Axes of files that do not state their own, such as ZYX.
        image: Number (from 1) or name of the image to read of files that hold several; by default the largest that is
            no thumbnail, label or overview.
        bar: keep or crop the data bar of an electron microscope below the image: it is copied enlarged, never restored.
        overwrite: Replace existing files, each when the new one is complete.
        skip_bad: Leave out files that cannot be read, with a warning, instead of stopping before any work.
        format: tif, ome.tif, ome.zarr or png for files written into a folder; by default that of the source where it
            can be written, else tif.
        workers: How many processes of this machine share the work, each with a network of its own; by default this
            process alone.
        scheduler: Address of a Dask cluster that does the work, such as tcp://host:8786; its workers must see weights,
            source and target under the same paths.
        profile: Folder for a table and a trace of where the time goes; for small images and one process.

    Raises:
        InputError: an option, or a combination of options, that cannot be used.

    Example:
        >>> RestoreOptions(window=256, precision="float32").overwrite
        False
    """

    window: int | None = None
    overlap: float | None = None
    orientations: int = 1
    precision: str = "auto"
    backend: str = "torch"
    device: str | None = None
    axes: str | None = None
    image: int | str | None = None
    bar: str = "keep"
    overwrite: bool = False
    skip_bad: bool = False
    format: str | None = None
    workers: int | None = None
    scheduler: str | None = None
    profile: str | Path | None = None

    def __post_init__(self) -> None:
        self._inferer(volume=False)
        if self.bar not in BARS:
            raise InputError(f"bar: {self.bar!r} is unknown{nearest(str(self.bar), BARS)} ({', '.join(BARS)})")
        if self.workers is not None and self.scheduler is not None:
            raise InputError("workers and scheduler: give one of them; a cluster has its own workers")
        if self.workers is not None and (type(self.workers) is not int or self.workers < 1):
            raise InputError(f"workers: {self.workers!r} is not a number of processes; give 1 or more")
        if self.profile is not None and self.shared:
            raise InputError("profile: measures one process; leave out workers and scheduler")

    @property
    def shared(self) -> bool:
        """Whether other processes do the work."""
        return self.scheduler is not None or (self.workers or 1) > 1

    def inferer(self, record: Record) -> SeamlessInferer:
        """The inferer for a network with this record; windows too small for the overlap are an InputError."""
        _, along_y, along_x = factors(record.scale)
        if self.orientations > 4 and along_y != along_x:
            raise InputError(f"orientations: 8 needs one scale of Y and X, not {record.scale}; give 4")
        return self._inferer(is_volume(record.scale))

    def _inferer(self, volume: bool) -> SeamlessInferer:
        from pssr2_monai.restoration.inferer import SeamlessInferer  # loads torch and MONAI, which help does not need

        return SeamlessInferer(
            self.window,
            self.overlap,
            precision=self.precision,
            backend=self.backend,
            volume=volume,
            orientations=self.orientations,
        )


def merge_options(options: RestoreOptions | None, keywords: Mapping[str, Any]) -> RestoreOptions:
    """Options, by default the default ones, with some replaced by keywords; one that is no option is a UsageError."""
    names = [field.name for field in fields(RestoreOptions)]
    for keyword in keywords:
        if keyword not in names:
            near = nearest(keyword, names) or f"; the options are {', '.join(names)}"
            raise UsageError(f"restore: there is no option {keyword!r}{near}")
    return replace(options or RestoreOptions(), **keywords)
