"""The windows of the plugin need napari, its and Qt's pytest plugins, and a screen: see `make tests`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

EXIT_STATUS = pytest.StashKey[int]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.pluginmanager.hasplugin("napari") or not config.pluginmanager.hasplugin("pytest-qt"):
        reason = "napari's tests run in a process of their own: make napari-tests"
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[EXIT_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End without freeing what Qt and Python both hold: that aborts now and then, after all tests have passed."""
    status = config.stash.get(EXIT_STATUS, None)
    if status is not None and config.pluginmanager.hasplugin("napari"):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any]) -> Any:
    """napari's viewer, without a window to be seen."""
    return make_napari_viewer()


@pytest.fixture
def panel_of(viewer: Any, qtbot: Any) -> Iterator[Callable[[str], Any]]:
    """Docks a window of the plugin by its name, as its manifest has it."""
    panels = []

    def dock(name: str) -> Any:
        panels.append(viewer.window.add_plugin_dock_widget("pssr2-monai", name)[1])
        return panels[-1]

    yield dock
    for panel in panels:
        panel.stop()
        qtbot.waitUntil(lambda panel=panel: not panel.running, timeout=60_000)


@pytest.fixture
def done(qtbot: Any) -> Callable[..., None]:
    """Waits until a panel's work is done; fails with what it says where it failed."""

    def wait(panel: Any, words: str = "") -> None:
        qtbot.waitUntil(lambda: not panel.running, timeout=120_000)
        assert words in panel.message.text(), panel.message.text()

    return wait
