"""Steps of a training that must not spoil the weights: gradients are clipped, and what is not finite is left out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from pssr2_monai.errors import InputError
from pssr2_monai.images.files import first_names
from pssr2_monai.training.averaging import batch_norms
from pssr2_monai.training.checkpoints import Checkpoints
from pssr2_monai.training.distributed import on_any

logger = logging.getLogger(__name__)


class ClipGradients:
    """Scales the gradient down to a norm of at most ``max_norm``; one odd tile must not throw the weights off.

    The norm before that is stored in the trainer's state as ``gradient_norm``.
    """

    def __init__(self, parameters: Any, max_norm: float) -> None:
        self.parameters = list(parameters)
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        scaler = getattr(engine, "scaler", None)
        if scaler is not None:
            scaler.unscale_(engine.optimizer)
        engine.state.gradient_norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.max_norm)


class FiniteSteps:
    """Leaves out steps whose loss or gradient is not finite, and ends a training that has too many of them in a row.

    Such a step changes neither weights, averages of the optimizer, nor statistics of norms. It is logged with the files
    of its batch. Ignite's ``TerminateOnNan`` ends a training at the first one, after the weights are spoilt. It stands
    after ``ClipGradients``, whose norm it reads, so that all processes that train together leave out the same steps.

    Args:
        network: what is trained.
        checkpoints: saves the last good state before the training ends; None where nothing is saved.
        limit: steps in a row that end the training.
        every: steps between two looks at the results, each of which waits for the device.

    Attributes:
        count: steps left out so far.

    Raises:
        InputError: naming the epoch, the files, and what may help.
    """

    def __init__(
        self, network: torch.nn.Module, checkpoints: Checkpoints | None = None, limit: int = 10, every: int = 1
    ) -> None:
        self.checkpoints = checkpoints
        self.limit, self.every = limit, every
        self.count = 0
        self._in_row = 0
        self._steps: list[tuple[int, torch.Tensor, Sequence[str]]] = []
        self._statistics = list(_statistics(network))
        self._good: list[torch.Tensor] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._leave_out)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.every), self._look)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._look)

    def _begin(self, _: Engine) -> None:
        self._good = [statistic.clone() for statistic in self._statistics]

    def _leave_out(self, engine: Engine) -> None:
        loss = engine.state.output["loss"].detach()
        norm = getattr(engine.state, "gradient_norm", None)
        finite = torch.isfinite(loss if norm is None else norm)
        if idist.get_world_size() == 1:  # of several processes, each has a loss and statistics of its own
            for part in (loss, *self._statistics):
                finite = finite & torch.isfinite(part).all()
        for statistic, good in zip(self._statistics, self._good, strict=True):
            good.copy_(torch.where(finite, statistic, good))
            statistic.copy_(good)
        optimizer = engine.optimizer
        if getattr(engine, "scaler", None) is None:  # which would leave it out by itself
            if getattr(optimizer, "_step_supports_amp_scaling", False) and finite.device.type != "mps":
                optimizer.found_inf = (~finite).float()  # for the device to decide, which need not be waited for
            elif not finite:
                optimizer.zero_grad(set_to_none=True)
        batch = engine.state.batch
        names = batch.get("name", ()) if isinstance(batch, dict) else ()
        self._steps.append((engine.state.iteration, finite, names))

    def _look(self, engine: Engine) -> None:
        steps, self._steps = self._steps, []
        bad: list[int] = []
        files: Counter[str] = Counter()
        for number, finite, names in steps:
            if finite:
                self._in_row = 0
                continue
            self._in_row += 1
            bad.append(number)
            files.update(name.rpartition(" frame ")[0] or name for name in names)
        where = f" (tiles of {first_names(sorted(files))})" if files else ""
        if bad:
            self.count += len(bad)
            logger.warning(
                "epoch %d: left out %d steps whose loss or gradient is not finite%s; %d so far",
                engine.state.epoch,
                len(bad),
                where,
                self.count,
            )
        if on_any(self._in_row >= self.limit):
            self._end(engine, where)

    def _end(self, engine: Engine, where: str) -> None:
        kept = ""
        if self.checkpoints is not None and engine.state.iteration > self._in_row and idist.get_rank() == 0:
            self.checkpoints.save_state(engine)
            kept = "; the last good state is saved"
        raise InputError(
            f"epoch {engine.state.epoch}: the loss or its gradient was not finite in {self._in_row} steps in a row"
            f"{where}{kept}; use a smaller lr, or precision 'float32' if it happens at once"
        )


def _statistics(network: torch.nn.Module) -> Iterator[torch.Tensor]:
    """The running means and variances of norms, which a forward pass changes before its loss is known."""
    for norm in batch_norms(network):
        yield from (buffer for buffer in norm.buffers() if buffer.is_floating_point())
