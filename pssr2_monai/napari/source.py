"""Choosing images, a layer, the selected layers, or a file or folder; and choosing weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox, Container, FileEdit
from napari.layers import Image

from pssr2_monai.errors import InputError
from pssr2_monai.napari.layers import file_name, write_layer
from pssr2_monai.networks.weights import weights_file

FILES, SELECTED, NOTHING = "files …", "the selected layers", "–"


class ImageSource(Container):
    """Which images: a combo box of what there is, and a path where files are chosen.

    Args:
        viewer: napari's.
        label: what the images are.
        several: whether all selected layers may be taken together.
        optional: what is said where none are chosen; None if some must be.
        folder: whether files are chosen by their folder.
        tooltip: more words.
    """

    def __init__(
        self,
        viewer: Any,
        label: str,
        several: bool = False,
        optional: str | None = None,
        folder: bool = True,
        tooltip: str = "",
    ) -> None:
        self._viewer, self._several, self._optional = viewer, several, optional
        self.choice = ComboBox(label=label, choices=self._choices, tooltip=tooltip)
        self.path = FileEdit(mode="d" if folder else "r", nullable=True, visible=False, tooltip=tooltip)
        super().__init__(widgets=[self.choice, self.path], labels=False, label=label, layout="vertical")
        self.margins = (0, 0, 0, 0)
        self.choice.changed.connect(self._show_path)
        self._show_path()

    @property
    def layers(self) -> list[Image]:
        """The layers that are chosen."""
        chosen = self.choice.value
        if chosen == SELECTED:
            return [layer for layer in self._viewer.layers if layer in self._viewer.layers.selection and _usable(layer)]
        return [chosen] if isinstance(chosen, Image) else []

    def choose(self, what: Image | str | Path) -> None:
        """Chooses a layer, or a file or folder."""
        self.reset_choices()
        if isinstance(what, (str, Path)) and what not in (FILES, SELECTED):
            self.choice.value, self.path.value = FILES, Path(what)
        else:
            self.choice.value = what

    def files(self, folder: Path, name: str | None = None) -> Path | None:
        """The file or folder that holds the images; layers are written into a folder first, in place of what it held.

        Args:
            folder: where layers are written to.
            name: of the file, where there is to be one of a given name.

        Raises:
            InputError: nothing is chosen, or a layer cannot be written.
        """
        if self.choice.value == FILES:
            if self.path.value is None or not str(self.path.value).strip() or str(self.path.value) == ".":
                raise InputError(f"{self.label}: choose a file or folder, or one of the layers")
            return Path(self.path.value)
        if not self.layers:
            if self._optional is not None:
                return None
            raise InputError(
                f"{self.label}: no image layer is selected; select some in the layer list, or choose files"
            )
        shutil.rmtree(folder, ignore_errors=True)
        for number, layer in enumerate(self.layers):
            write_layer(layer, folder / f"{name or f'{number:03d}_{file_name(layer)}'}.ome.tif")
        return folder

    def reset_choices(self, *_: Any) -> None:
        """Looks anew at which layers there are; the first that comes is chosen where nothing else was."""
        super().reset_choices()
        layers = [each for each in self.choice.choices if isinstance(each, Image)]
        if self.choice.value == FILES and self.path.value is None and layers:
            self.choice.value = layers[0]

    def _choices(self, _: Any) -> list[Any]:
        first = [self._optional] if self._optional is not None else []
        layers = [layer for layer in self._viewer.layers if _usable(layer)]
        return [*first, *layers[::-1], *([SELECTED] if self._several else []), FILES]

    def _show_path(self, *_: Any) -> None:
        self.path.visible = self.choice.value == FILES


def _usable(layer: Any) -> bool:
    return isinstance(layer, Image) and not layer.rgb and not layer.metadata.get("pssr2_shown")


def chosen_weights(edit: FileEdit) -> Path:
    """The file of weights that is chosen, or typed as the name of some that come along.

    Raises:
        InputError: nothing is chosen, or there is no such file.
    """
    if edit.value is None or str(edit.value) in ("", "."):
        raise InputError("Weights: choose a model.pt that a training has written")
    path = Path(edit.value)  # which the widget has made absolute
    return weights_file(path.name if path == Path(path.name).absolute() else path)
