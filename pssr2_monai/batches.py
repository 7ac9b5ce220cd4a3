"""What the trainer makes of a batch before its step: the ``prepare_batch`` that MONAI's engines take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.config import NdarrayOrTensor
from monai.engines import default_prepare_batch
from monai.transforms import Randomizable
from torch.profiler import record_function

from pssr2_monai.axes import central
from pssr2_monai.dataset import TileDataset
from pssr2_monai.errors import InputError

__all__ = ["CrappifyBatch", "prepare_batch_with_extra"]


class CrappifyBatch:
    """Crappifies the targets of a training batch on the device, instead of one by one in the loader.

    The draws follow from the seed, the epoch and the names of the batch's tiles, and so do not depend on the loader's
    workers; they are others than those of the loader.

    Args:
        crappifier: a ``Crappify``; or any callable or network that takes and returns images
            ``(batch, frames, Y, X)`` in [0, 1]; a network gets no gradient.
        targets: keys that the step is given; ``label`` is crappified.
        n_frames: central frames that are kept of them afterwards.
        dataset: knows the seed and the epoch.
        prepare: what then makes inputs and targets of the batch.
    """

    def __init__(
        self,
        crappifier: Callable[[NdarrayOrTensor], NdarrayOrTensor],
        targets: Sequence[str],
        n_frames: int,
        dataset: TileDataset,
        prepare: Callable[..., Any] = default_prepare_batch,
    ) -> None:
        self.crappifier = crappifier
        self.targets = tuple(targets)
        self.n_frames = n_frames
        self.dataset = dataset
        self.prepare = prepare

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **options: Any,
    ) -> Any:
        """What ``prepare`` makes of a batch whose ``image`` is made here.

        Raises:
            InputError: the batch has an ``image`` already.
        """
        batch = dict(batchdata)
        if "image" in batch:
            raise InputError("crappify_on_device: the LR images are given (lr_dir); leave one of the two out")
        for key in self.targets:
            batch[key] = batch[key].to(device, non_blocking=non_blocking)
        if isinstance(self.crappifier, Randomizable):
            self.crappifier.set_random_state(seed=self.dataset.seed_of("".join(batch["name"])))
        with record_function("crappify"), torch.no_grad():
            batch["image"] = self.crappifier(batch["label"])
        for key in self.targets:
            batch[key] = batch[key][:, central(batch[key].shape[1], self.n_frames)]
        return self.prepare(batch, device, non_blocking, **options)


def prepare_batch_with_extra(
    batchdata: Mapping[str, torch.Tensor],
    device: torch.device | str | None = None,
    non_blocking: bool = False,
    **_: Any,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """For a loss that looks at a third image: it is called with the output and ``{"label": ..., "extra": ...}``."""
    image, label, extra = (batchdata[key].to(device, non_blocking=non_blocking) for key in ("image", "label", "extra"))
    return image, {"label": label, "extra": extra}
