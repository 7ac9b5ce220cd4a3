"""Random draws that are cheap to seed anew for every sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from monai.transforms import Randomizable
from monai.utils.misc import MAX_SEED


class Seeded(Randomizable):
    """MONAI's ``Randomizable`` with the same draws, seeded anew at a hundredth of the cost.

    MONAI makes a new random state for each seed, which first gathers entropy that it then throws away: in a chain of
    transforms seeded sample by sample this takes as long as the transforms themselves. Here the state is kept.
    """

    _kept: np.random.RandomState | None = None

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Any:
        """Seeds this transform: by a whole number, by a state that it is to share, or by chance."""
        if seed is None:
            return super().set_random_state(state=state)
        if self._kept is None:
            self._kept = np.random.RandomState(0)
        self._kept.seed(int(seed) % MAX_SEED)
        self.R = self._kept
        return self
