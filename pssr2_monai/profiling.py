"""Where the time of a run goes: a table of its parts, and a trace of every operation.

Whatever is done within ``torch.profiler.record_function(NAME)`` is a part.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile, record_function

from pssr2_monai.io.part import finish, part_of

__all__ = ["StepProfile", "profiled"]

TABLE, TRACE = "profile.txt", "profile.json"


@contextmanager
def profiled(folder: str | Path, parts: Sequence[str], steps: int = 1, unit: str = "ms") -> Iterator[None]:
    """Profiles what is done within, and writes ``profile.txt`` and ``profile.json`` into a folder.

    The trace opens in Perfetto (ui.perfetto.dev) and in Chrome's ``about:tracing``. Parts of other threads count, too,
    so that those that overlap add up to more than the whole.

    Args:
        folder: where both are written; made if need be.
        parts: names of the parts that the table tells, in order; an indented one lies within the one before.
        steps: among which the times are divided.
        unit: what the column of times is called.
    """
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    everywhere = _ExperimentalConfig(profile_all_threads=True)  # reading and writing have threads of their own
    with profile(activities=activities, experimental_config=everywhere) as running:
        started = time.perf_counter()
        yield
        whole = 1e3 * (time.perf_counter() - started)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    spent = {average.key: average.cpu_time_total / 1e3 for average in running.key_averages()}
    told = {name: spent[name.strip()] for name in parts if name.strip() in spent}
    told["everything else"] = max(0.0, whole - sum(each for name, each in told.items() if not name.startswith(" ")))
    told["whole"] = whole
    lines = [f"{'part':<22}{unit:>11}{'share':>8}"]
    lines += [f"{name:<22}{each / steps:11.2f}{each / whole:8.1%}" for name, each in told.items()]
    (folder / TABLE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    running.export_chrome_trace(str(part_of(folder / TRACE)))
    finish(part_of(folder / TRACE), folder / TRACE)


class StepProfile:
    """Profiles some steps of a training; see ``profiled``.

    Crappifying is seen apart from loading where the loader has no workers, or where it is done on the device. Attach it
    last, so that the time of the other handlers is theirs.

    Args:
        folder: where table and trace are written.
        device: what the network runs on; on a GPU each part waits for it, so that it is given what it takes.
        evaluator: whose validation is a part, too.
        skip: steps before, which warm up.
        steps: to be profiled; fewer where the training ends before.
    """

    PARTS = ("load", "  crappify", "forward", "loss", "backward", "optimizer", "handlers", "validation")

    def __init__(
        self, folder: str, device: torch.device, evaluator: Engine | None = None, skip: int = 5, steps: int = 20
    ) -> None:
        self.folder = folder
        self.device = device
        self.evaluator = evaluator
        self.skip = skip
        self.steps = steps
        self._done = 0
        self._profile = ExitStack()
        self._part = ExitStack()

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._begin)
        for event, part in (
            (Events.GET_BATCH_STARTED, "load"),
            (Events.GET_BATCH_COMPLETED, "handlers"),
            (Events.ITERATION_STARTED, "forward"),
            (IterationEvents.FORWARD_COMPLETED, "loss"),
            (IterationEvents.LOSS_COMPLETED, "backward"),
            (IterationEvents.BACKWARD_COMPLETED, "optimizer"),
            (IterationEvents.MODEL_COMPLETED, "handlers"),
        ):
            engine.add_event_handler(event, self._enter, part)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.STARTED, self._enter, "validation")
            self.evaluator.add_event_handler(Events.COMPLETED, self._enter, "handlers")
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)
        for event in (Events.COMPLETED, Events.EXCEPTION_RAISED):
            engine.add_event_handler(event, self._end)

    def _begin(self, engine: Engine) -> None:
        if self._done == self.skip:
            self._profile.enter_context(profiled(self.folder, self.PARTS, self.steps, "ms a step"))

    def _enter(self, engine: Engine, part: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._part.close()
        if self.skip <= self._done < self.skip + self.steps:
            self._part.enter_context(record_function(part))

    def _count(self, engine: Engine) -> None:
        self._done += 1
        if self._done == self.skip + self.steps:
            self._end(engine)

    def _end(self, engine: Engine, error: BaseException | None = None) -> None:
        self._part.close()
        self._profile.close()
        if error is not None:
            raise error
