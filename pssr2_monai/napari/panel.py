"""What the plugin's windows share: a form, buttons, a progress bar, messages, plots, and work in a thread."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from magicgui.widgets import CheckBox, Container, FileEdit, ProgressBar, PushButton, Widget
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QApplication, QFrame, QLabel, QScrollArea, QVBoxLayout, QWidget
from torch.nn.modules.module import register_module_forward_pre_hook

from pssr2_monai.errors import InputError, causes
from pssr2_monai.napari.form import Options, Rows
from pssr2_monai.progress import listen_to_progress

logger = logging.getLogger(__name__)
GOOD, DOUBTFUL, BAD, PLAIN = "#5fb878", "#e8a33d", "#ff6b5e", ""  # colours of messages
MIN_WIDTH_PX = 390  # of the window
BAR_STEPS = 1000
# PySide6 6.12 gives None back more often than it takes it, thousands of times for a window and a training, and Python
# before 3.12 aborts when the last one is gone. References that nobody takes put that off for days.
SPARE_NONES = (None,) * 1_000_000 if sys.version_info < (3, 12) else ()
RESTED_MS = 400  # a preview is renewed when the form has rested this long


class Stopped(Exception):
    """The user has asked to stop."""


class Plot(FigureCanvasQTAgg):
    """A matplotlib figure as wide as the window, at its own height."""

    def __init__(self, figure: Figure) -> None:
        super().__init__(figure)
        self.setFixedHeight(round(figure.get_figheight() * figure.dpi))

    def wheelEvent(self, event: Any) -> None:
        event.ignore()  # the window scrolls


class Panel(QScrollArea):
    """A form above buttons to start and stop, a progress bar, a message, and the outcome.

    A subclass fills the form and ``outcome``, and implements ``begin``, which reads the form and hands the work to
    ``run``.
    """

    reported = Signal(object)  # from the thread of the work to that of the window
    stopping_message = "stopping …"

    def __init__(self, viewer: Any, start: str) -> None:
        super().__init__()
        self.viewer = viewer
        self.worker: Any = None
        self.stopping = False
        self.folder = TemporaryFolder()
        self.form = Rows()
        self._sources = [self.form]
        self.start_button = PushButton(text=start)
        self.stop_button = PushButton(text="Stop", enabled=False)
        self.start_button.clicked.connect(lambda *_: self.attempt(self.begin))
        self.stop_button.clicked.connect(lambda *_: self.stop())
        self.buttons = Container(widgets=[self.start_button, self.stop_button], layout="horizontal", labels=False)
        self.bar = ProgressBar(min=0, max=BAR_STEPS, value=0, visible=False)
        self.message = QLabel()
        self.message.setTextFormat(Qt.TextFormat.PlainText)  # a message may quote what a file says
        self.message.setWordWrap(True)
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.outcome = QVBoxLayout()
        inside = QWidget()
        self.rows = QVBoxLayout(inside)
        for widget in (self.form, self.buttons.native, self.bar.native, self.message):
            self.rows.addWidget(widget)
        self.rows.addLayout(self.outcome)
        self.rows.addStretch(1)
        self.setWidget(inside)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.reported.connect(self.show_report)
        QApplication.instance().aboutToQuit.connect(self.stop)

    def fill(self, widgets: Sequence[Widget], options: Options) -> None:
        self.form.add(widgets)
        self.options = options
        self._sources.append(options.rows)
        self.rows.insertWidget(1, options)
        options.toggle.toggled.connect(self.fit_width)

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        self.fit_width()

    def fit_width(self) -> None:
        """Make the window wide enough for its contents, since it scrolls up and down only."""
        bar = self.verticalScrollBar().sizeHint().width()
        self.setMinimumWidth(max(MIN_WIDTH_PX, self.widget().minimumSizeHint().width() + bar))

    def reset_choices(self, *_: Any) -> None:
        """Update the choices of layers; napari calls it when layers come or go."""
        for rows in self._sources:
            rows.reset_choices()

    @property
    def running(self) -> bool:
        return self.worker is not None

    def begin(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        if self.running:
            self.abandon()
            self.stop_button.enabled = False
            self.say(self.stopping_message)

    def abandon(self) -> None:
        """Ask the work to stop, whose window may have been closed."""
        self.stopping = True

    def report(self, report: Any) -> None:
        """Pass a report from the thread of the work to the window; stop the work where the window was closed."""
        try:
            self.reported.emit(report)
        except RuntimeError:  # Qt has deleted the window
            self.abandon()

    def show_report(self, report: Any) -> None:
        """Show a report of the work: by default the share that is done."""
        self.progress(float(report))

    def watched(self, work: Callable[[], Any], stopped: str = "Stopped.", in_network: bool = True) -> Callable[[], Any]:
        """Wrap work so that its progress is shown and the stop button ends it, with a message.

        ``in_network`` is whether it ends within a network, too, between two layers.
        """

        def check() -> None:
            if self.stopping:
                raise Stopped(stopped)

        def listen(_: str, share: float) -> None:
            check()
            self.report(share)

        def watched_work() -> Any:
            with listen_to_progress(listen), _before_layers(check if in_network else lambda: None):
                return work()

        return watched_work

    def run(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run work in a thread, then ``done`` with its result in the thread of the window."""
        self.stopping = False
        self.start_button.enabled, self.stop_button.enabled = False, True
        self.progress(None)
        self.say("")
        self.worker = self.in_thread(work, done, self.finish)

    def in_thread(self, work: Callable[[], Any], done: Callable[[Any], None], finished: Callable[[], None]) -> Any:
        """Run work in a thread; its errors are shown, and ``finished`` is called in any case."""

        def outcome() -> tuple[Any, Exception | None]:
            try:
                return work(), None
            except Exception as error:
                return None, error

        def returned(result_and_error: tuple[Any, Exception | None]) -> None:
            result, error = result_and_error
            if error is None:
                self.attempt(lambda: done(result))
            else:
                self._show_error(error)

        worker = create_worker(outcome, _start_thread=False)
        worker.returned.connect(returned)
        worker.finished.connect(finished)
        worker.start()
        return worker

    def finish(self) -> None:
        """Get ready for the next run; called after the work, whether it failed or not."""
        self.worker = None
        self.stopping = False
        self.bar.visible = False
        self.start_button.enabled, self.stop_button.enabled = True, False

    def attempt(self, action: Callable[[], None]) -> None:
        # An error is shown in the window instead of being raised among its events.
        try:
            action()
        except Exception as error:
            self._show_error(error)

    def say(self, message: str, colour: str = PLAIN) -> None:
        self.message.setStyleSheet(f"color: {colour};" if colour else "")
        self.message.setText(message)

    def clear_error(self) -> None:
        if BAD in self.message.styleSheet():
            self.say("")

    def progress(self, share: float | None) -> None:
        """Show the share that is done, in [0, 1]; None where it is unknown."""
        self.bar.visible = True
        self.bar.max = 0 if share is None else BAR_STEPS
        self.bar.value = round(BAR_STEPS * (share or 0))

    def _show_error(self, error: BaseException) -> None:
        known = next((cause for cause in causes(error) if isinstance(cause, (InputError, Stopped))), None)
        if known is not None:
            self.say(str(known), PLAIN if isinstance(known, Stopped) else BAD)
        elif isinstance(error, OSError) and error.filename is not None:
            self.say(f"{error.filename}: {error.strerror}; choose another place, or make room for it", BAD)
        else:
            logger.error("%s", error, exc_info=error)
            self.say(f"{type(error).__name__}: {error}", BAD)
            show_error(f"PSSR2: {type(error).__name__}: {error}")


@contextmanager
def _before_layers(check: Callable[[], None]) -> Iterator[None]:
    """Call a function before each layer of every network that this thread applies within the block."""
    thread = threading.get_ident()
    hook = register_module_forward_pre_hook(lambda *_: check() if threading.get_ident() == thread else None)
    try:
        yield
    finally:
        hook.remove()


class Preview:
    """Work that is done in a thread, again whenever the form has changed and then rested, while a box is ticked.

    Args:
        panel: whose errors and thread it uses; nothing is previewed while it works.
        wanted: the box.
        prepare: reads the form and returns the work.
        show: takes what the work returns; ``remove`` what was shown.
    """

    def __init__(
        self,
        panel: Panel,
        wanted: CheckBox,
        prepare: Callable[[], Callable[[], Any]],
        show: Callable[[Any], None],
        remove: Callable[[], None],
    ) -> None:
        self._panel, self._wanted, self._prepare, self._result, self._remove = panel, wanted, prepare, show, remove
        self.busy = False
        self.timer = QTimer(panel, singleShot=True, interval=RESTED_MS)
        self.timer.timeout.connect(lambda: panel.attempt(self._renew))
        wanted.changed.connect(lambda *_: self.ask())

    def ask(self) -> None:
        """Renew the preview when the form has rested."""
        self.timer.start()

    def end(self) -> None:
        self._wanted.value = False
        self.timer.stop()
        self._remove()

    def _renew(self) -> None:
        if not self._wanted.value or self._panel.running:
            self._remove()
        elif self.busy:
            self.ask()
        else:
            work = self._prepare()
            self.busy = True
            self._panel.in_thread(work, self._show, self._finished)

    def _show(self, result: Any) -> None:
        if self._wanted.value and not self._panel.running:
            self._panel.clear_error()
            self._result(result)

    def _finished(self) -> None:
        self.busy = False


class TemporaryFolder:
    """A folder that is deleted with the last reference to this object, or when the program ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="pssr2_napari_"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def chosen_path(edit: FileEdit) -> Path | None:
    """The path in a widget; None where it is empty."""
    return None if edit.value is None or str(edit.value).strip() in ("", ".") else Path(edit.value)
