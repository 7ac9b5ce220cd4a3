"""The dataset of tiles, whose random draws can be had again."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import Dataset
from monai.transforms import Randomizable

from pssr2_monai.randomness import Seeded

__all__ = ["TileDataset"]


class TileDataset(Dataset):
    """A MONAI dataset whose random draws follow from the seed, the epoch and the sample's identity alone.

    The same images come whatever the number of workers and the order in which they are asked for.

    Args:
        data: datalist whose items have a ``name`` of their own.
        transform: what makes a sample of an item; its random transforms are seeded for each sample.
        seed: seed of all draws.

    Example:
        >>> dataset = TileDataset([{"name": "a", "pixels": 3}], transform=lambda item: item["pixels"], seed=0)
        >>> dataset.set_epoch(2)
        >>> dataset[0]
        3
    """

    def __init__(self, data: Sequence[dict[str, Any]], transform: Callable[..., Any], seed: int = 0) -> None:
        super().__init__(data, transform)
        self.seed = seed
        self._seeded = Seeded()
        # In shared memory, so that workers which outlive an epoch see the next one.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Makes the draws those of this epoch; leave it alone for a validation set, whose noise is to stay as it is."""
        self._epoch[0] = epoch

    def seed_of(self, name: str) -> int:
        """The seed of what is drawn for a name in this epoch."""
        identity = zlib.crc32(name.encode())
        return int(np.random.SeedSequence([self.seed, int(self._epoch[0]), identity]).generate_state(1)[0])

    def _transform(self, index: int) -> Any:
        if isinstance(self.transform, Randomizable):
            seed = self.seed_of(self.data[index]["name"])
            self.transform.set_random_state(state=self._seeded.set_random_state(seed=seed).R)
        return super()._transform(index)
