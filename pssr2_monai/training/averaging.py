"""What a training averages: weights, which are validated and saved, and the statistics of batch norms, which freeze."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from monai.engines.utils import IterationEvents
from torch.nn.modules.batchnorm import _BatchNorm

from pssr2_monai.errors import InputError
from pssr2_monai.training.handlers import ProgressSchedule

MOMENTUM = "average_momentum"  # in the trainer's state


class Averaging:
    """Keeps an exponential moving average of the weights, by Ignite's ``EMAHandler``.

    Its half-life is a share of the steps so far, so that trainings of any length forget their beginning, and none needs
    a warm-up (the power function averages of Karras et al. 2024, arXiv 2312.02696, section 3.1). Buffers, the
    statistics of norms among them, are those of the network that is trained. It follows each step of the optimizer,
    before other handlers save or validate, and depends on the weights alone: ranks that train together need no
    communication, and precision and ``torch.compile`` make no difference.

    Args:
        network: what is trained.
        share: half-life over the number of steps so far, above 0 and at most 1.

    Attributes:
        network: the same network with averaged weights, in evaluation mode.

    Raises:
        InputError: a share out of range.
    """

    def __init__(self, network: torch.nn.Module, share: float) -> None:
        if isinstance(share, bool) or not 0 < share <= 1:
            raise InputError(f"average: found {share}; give a share of the steps, above 0 and at most 1, or none")
        self.share = share
        self._handler = EMAHandler(network, momentum=0.5, handle_buffers="copy")
        self.network: torch.nn.Module = self._handler.ema_model

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, self._set_momentum)
        self._handler.attach(engine, MOMENTUM, warn_if_exists=False, event=IterationEvents.MODEL_COMPLETED)

    def momentum(self, step: int) -> float:
        """Return the weight of the network after a step, counted from 1; the average so far has the rest."""
        return 1.0 - float(0.5 ** (1.0 / (self.share * step)))

    def _set_momentum(self, engine: Engine) -> None:
        setattr(engine.state, MOMENTUM, self.momentum(engine.state.iteration))

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of the network that is trained, for a checkpoint whose ``model`` is the average."""
        weights: dict[str, Any] = self._handler.model.state_dict()
        return weights

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._handler.model.load_state_dict(state)


@dataclass(eq=False)
class FreezeNorm:
    """Lets batch norms train on with the statistics that restoring will use, from some progress on.

    Until then each batch is normalised by its own mean and variance, which one tile of strong noise may decide, while
    restoring uses averages over batches: noise of a strength that few tiles have is then restored worse than it was in
    training (Wu and Johnson 2021, arXiv 2105.07576).

    Args:
        network: what is trained; without batch norms nothing changes.
        schedule: gives the progress.
        progress: in [0, 1], from which on the statistics stay as they are.

    Raises:
        InputError: a progress out of range.
    """

    network: torch.nn.Module
    schedule: ProgressSchedule
    progress: float

    def __post_init__(self) -> None:
        if isinstance(self.progress, bool) or not 0 <= self.progress <= 1:
            raise InputError(f"freeze_norm: found {self.progress}; give a share of the training from 0 to 1, or none")

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, self._freeze)

    def _freeze(self, engine: Engine) -> None:
        if self.schedule.progress(engine) < self.progress:
            return
        engine.remove_event_handler(self._freeze, Events.ITERATION_STARTED)
        for norm in batch_norms(self.network):
            norm.eval()
            setattr(norm, "train", lambda mode=True, norm=norm: norm)  # noqa: B010 (a method)


def batch_norms(network: torch.nn.Module) -> list[_BatchNorm]:
    """The norms of a network that keep statistics of its batches."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]
