"""What every window does: work in a thread, its progress and its errors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from magicgui.widgets import FileEdit

from pssr2_monai.errors import InputError
from pssr2_monai.napari.panel import BAD, BAR_STEPS, GOOD, Panel, chosen_path
from pssr2_monai.progress import report_progress
from pssr2_monai.training.live import LiveTraining


@pytest.fixture
def panel(viewer: Any, qtbot: Any) -> Panel:
    panel = Panel(viewer, "Start")
    qtbot.addWidget(panel)
    return panel


def test_work_runs_in_a_thread_and_its_result_comes_back(panel: Panel, done: Callable[..., None]) -> None:
    results: list[Any] = []
    panel.run(lambda: threading.current_thread(), results.append)
    assert panel.running
    assert (panel.start_button.enabled, panel.stop_button.enabled) == (False, True)
    done(panel)
    assert results[0] is not threading.current_thread()
    assert (panel.start_button.enabled, panel.stop_button.enabled) == (True, False)
    assert not panel.bar.visible


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("cell.tif: is empty"), "cell.tif: is empty"),
        (PermissionError(13, "Permission denied", "/out"), "/out: Permission denied; choose another place"),
    ],
)
def test_errors_are_shown_in_the_window(
    error: Exception, message: str, panel: Panel, done: Callable[..., None]
) -> None:
    def fail() -> None:
        raise error

    panel.run(fail, lambda _: pytest.fail("no result"))
    done(panel, message)
    assert BAD in panel.message.styleSheet()
    panel.clear_error()
    assert panel.message.text() == ""
    panel.say("done", GOOD)
    panel.clear_error()
    assert panel.message.text() == "done"


def test_the_cause_of_a_wrapped_error_is_shown(panel: Panel) -> None:
    def fail() -> None:
        raise RuntimeError("config") from InputError("scale: 0 is not a scale")

    panel.attempt(fail)
    assert panel.message.text() == "scale: 0 is not a scale"


def test_progress_is_shown_and_the_stop_button_ends_the_work(
    panel: Panel, done: Callable[..., None], qtbot: Any
) -> None:
    shown = threading.Event()

    def work() -> None:
        report_progress("cell", 0.25)
        assert shown.wait(60)
        report_progress("cell", 0.5)
        pytest.fail("was not stopped")

    panel.run(panel.watched(work, "Stopped early."), lambda _: None)
    qtbot.waitUntil(lambda: panel.bar.value == BAR_STEPS // 4, timeout=60_000)
    panel.stop_button.clicked.emit(True)
    assert panel.stopping
    shown.set()
    done(panel, "Stopped early.")
    assert not panel.stopping


@pytest.mark.parametrize("in_network", [True, False])
def test_work_ends_between_two_layers_of_a_network(
    in_network: bool, panel: Panel, done: Callable[..., None], qtbot: Any
) -> None:
    begun, asked = threading.Event(), threading.Event()
    applied: list[str] = []

    class Waiting(torch.nn.Identity):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            begun.set()
            assert asked.wait(60)
            return pixels

    last = torch.nn.Identity()
    last.register_forward_hook(lambda *_: applied.append("last"))
    network = torch.nn.Sequential(Waiting(), last)
    panel.run(panel.watched(lambda: network(torch.zeros(1)), in_network=in_network), lambda _: None)
    qtbot.waitUntil(begun.is_set, timeout=60_000)
    panel.stop()
    torch.nn.Identity()(torch.zeros(1))  # another thread's network is not ended
    asked.set()
    done(panel, "Stopped." if in_network else "")
    assert applied == ([] if in_network else ["last"])


def test_an_empty_path_is_none(tmp_path: Path) -> None:
    edit = FileEdit(nullable=True)
    assert chosen_path(edit) is None
    edit.value = tmp_path
    assert chosen_path(edit) == tmp_path


def test_work_whose_window_has_gone_is_stopped(panel_of: Callable[[str], Any]) -> None:
    panel = panel_of("Train")
    panel._live = LiveTraining(panel.report)
    pytest.importorskip("shiboken6").delete(panel)  # as closing the window does
    panel.report(None)
    assert panel.stopping
    assert panel._live.stopped
