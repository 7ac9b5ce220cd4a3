"""What every window of the plugin has: a form, buttons, progress, words on how it goes, and work in a thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from magicgui.widgets import Container, ProgressBar, PushButton, Widget
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error
from PIL import Image
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QApplication, QFrame, QLabel, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from pssr2_monai.errors import InputError, causes
from pssr2_monai.progress import progress_told

logger = logging.getLogger(__name__)
GOOD, DOUBTFUL, BAD, PLAIN = "#5fb878", "#e8a33d", "#ff6b5e", ""
"""Colours of the words on how it went."""


class Stopped(Exception):
    """The user has asked to stop."""


class Picture(QLabel):
    """A picture in its own proportions, as wide as there is room.

    Args:
        whole: whether its height is to fit as well, as in a window of its own.
    """

    def __init__(self, whole: bool = False) -> None:
        super().__init__()
        self._picture: QPixmap | None = None
        self._whole = whole
        upright = QSizePolicy.Policy.Ignored if whole else QSizePolicy.Policy.Fixed
        self.setSizePolicy(QSizePolicy.Policy.Ignored, upright)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.hide()

    def show_picture(self, picture: Image.Image) -> None:
        """Shows a picture, instead of an earlier one."""
        rgb = picture.convert("RGB")
        image = QImage(rgb.tobytes(), rgb.width, rgb.height, 3 * rgb.width, QImage.Format.Format_RGB888)
        self._picture = QPixmap.fromImage(image)
        self.show()
        self._fit()

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        if self._picture is None or self.width() < 2:
            return
        fine, smooth = self.devicePixelRatioF(), Qt.TransformationMode.SmoothTransformation
        if self._whole:
            fitted = self._picture.scaled(self.size() * fine, Qt.AspectRatioMode.KeepAspectRatio, smooth)
        else:
            fitted = self._picture.scaledToWidth(round(self.width() * fine), smooth)
            self.setFixedHeight(round(fitted.height() / fine))
        fitted.setDevicePixelRatio(fine)
        self.setPixmap(fitted)


class Panel(QScrollArea):
    """A form above a button to begin and one to stop, a progress bar, words, and whatever shows the outcome.

    A subclass fills ``form`` and ``outcome``, and has ``begin``, which reads the form and hands ``run`` the work.

    Args:
        viewer: napari's.
        start: what the button to begin says.
    """

    told = Signal(object)
    """What the work tells while it goes on, from its thread to that of the window."""

    def __init__(self, viewer: Any, start: str) -> None:
        super().__init__()
        self.viewer = viewer
        self.worker: Any = None
        self._stopping = False
        self.form = Container(labels=True)
        self.start_button = PushButton(text=start)
        self.stop_button = PushButton(text="Stop", enabled=False)
        self.start_button.clicked.connect(lambda *_: self.attempt(self.begin))
        self.stop_button.clicked.connect(lambda *_: self.stop())
        self.buttons = Container(widgets=[self.start_button, self.stop_button], layout="horizontal", labels=False)
        self.bar = ProgressBar(min=0, max=1000, value=0, visible=False)
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.outcome = QVBoxLayout()
        inside = QWidget()
        self.rows = QVBoxLayout(inside)
        for each in (self.form.native, self.buttons.native, self.bar.native, self.words):
            self.rows.addWidget(each)
        self.rows.addLayout(self.outcome)
        self.rows.addStretch(1)
        self.setWidget(inside)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.told.connect(self.show_told)
        QApplication.instance().aboutToQuit.connect(self.stop)

    def tell(self, told: Any) -> None:
        """Hands on what the work tells, from its thread; stops it where the window has gone meanwhile."""
        try:
            self.told.emit(told)
        except RuntimeError:  # Qt has taken the panel apart
            self.abandon()

    def abandon(self) -> None:
        """Asks the work to stop, without a word, for there is no window any more."""
        self._stopping = True

    def fill(self, widgets: Sequence[Widget]) -> None:
        """Puts widgets into the form."""
        self.form.extend(widgets)
        self.form.native.layout().setContentsMargins(0, 0, 0, 0)

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        self._make_room()

    def _make_room(self) -> None:
        """Nothing is cut off on the right: what scrolls up and down does not scroll aside."""
        bar = self.verticalScrollBar().sizeHint().width()
        self.setMinimumWidth(max(390, self.widget().minimumSizeHint().width() + bar))

    def reset_choices(self, *_: Any) -> None:
        """Looks anew at which layers there are; napari calls it when that changes."""
        self.form.reset_choices()

    @property
    def running(self) -> bool:
        """Whether work goes on."""
        return self.worker is not None

    @property
    def stopping(self) -> bool:
        """Whether the work was asked to stop."""
        return self._stopping

    def begin(self) -> None:
        """Reads the form and begins the work."""
        raise NotImplementedError

    def stop(self) -> None:
        """Asks the work to stop."""
        if self.running:
            self._stopping = True
            self.stop_button.enabled = False
            self.say("stopping …")

    def show_told(self, told: Any) -> None:
        """Shows what the work tells: by default, a share that is done."""
        self.progress(float(told))

    def watched(self, work: Callable[[], Any], stopped: str = "Stopped.") -> Callable[[], Any]:
        """Work that tells how far it is, and that ends with these words where it is asked to stop."""

        def listen(_: str, share: float) -> None:
            if self.stopping:
                raise Stopped(stopped)
            self.tell(share)

        def watched_work() -> Any:
            with progress_told(listen):
                return work()

        return watched_work

    def run(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Does some work in a thread, and then, in that of the window, something with its result."""
        self._stopping = False
        self.start_button.enabled, self.stop_button.enabled = False, True
        self.progress(None)
        self.say("")
        self.worker = self.in_thread(work, done, self._finished)

    def in_thread(self, work: Callable[[], Any], done: Callable[[Any], None], finished: Callable[[], None]) -> Any:
        """Begins some work in a thread; its errors are told, and ``finished`` is called in any case."""

        def outcome() -> tuple[Any, Exception | None]:
            try:
                return work(), None
            except Exception as error:  # told in the window, instead of being raised among its events
                return None, error

        def returned(found: tuple[Any, Exception | None]) -> None:
            result, error = found
            if error is None:
                self.attempt(lambda: done(result))
            else:
                self._failed(error)

        worker = create_worker(outcome, _start_thread=False)
        worker.returned.connect(returned)
        worker.finished.connect(finished)
        worker.start()
        return worker

    def attempt(self, action: Callable[[], None]) -> None:
        """Does something; tells its error instead of raising it."""
        try:
            action()
        except Exception as error:
            self._failed(error)

    def say(self, words: str, colour: str = PLAIN) -> None:
        """Words on how it goes."""
        self.words.setStyleSheet(f"color: {colour};" if colour else "")
        self.words.setText(words)

    def clear_error(self) -> None:
        """Takes back what was said of an error that is mended."""
        if BAD in self.words.styleSheet():
            self.say("")

    def progress(self, share: float | None) -> None:
        """A share that is done, in [0, 1]; None where there is no telling."""
        self.bar.visible = True
        self.bar.max = 0 if share is None else 1000
        self.bar.value = round(1000 * (share or 0))

    def _failed(self, error: BaseException) -> None:
        told = next((each for each in causes(error) if isinstance(each, (InputError, Stopped))), None)
        if isinstance(told, Stopped):
            self.say(str(told))
        elif told is not None:
            self.say(str(told), BAD)
        elif isinstance(error, OSError) and error.filename is not None:
            self.say(f"{error.filename}: {error.strerror}; choose another place, or make room for it", BAD)
        else:
            logger.error("%s", error, exc_info=error)
            self.say(f"{type(error).__name__}: {error}", BAD)
            show_error(f"PSSR2: {type(error).__name__}: {error}")

    def _finished(self) -> None:
        self.worker = None
        self._stopping = False
        self.bar.visible = False
        self.start_button.enabled, self.stop_button.enabled = True, False
