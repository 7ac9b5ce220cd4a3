"""Widgets that choose images (a layer, the selected layers, a file or a folder) and weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox, Container, FileEdit
from napari.layers import Image

from pssr2_monai.errors import InputError
from pssr2_monai.napari.layers import RESULT, file_name, write_layer
from pssr2_monai.napari.panel import chosen_path
from pssr2_monai.networks.weights import weights_file

FILES, SELECTED = "files …", "the selected layers"


class ImageSource(Container):
    """A combo box of the image layers, and a path for images from files.

    Args:
        viewer: napari's.
        label: what the images are.
        several: whether all selected layers may be chosen together.
        optional: name of the choice of no images; None if some are required.
        folder: whether files are chosen by their folder.
        tooltip: an explanation.
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
        """The chosen layers; empty where files are chosen, or nothing."""
        choice = self.choice.value
        if choice == SELECTED:
            selection = self._viewer.layers.selection
            return [layer for layer in self._viewer.layers if layer in selection and _usable(layer)]
        return [choice] if isinstance(choice, Image) else []

    def choose(self, images: Image | str | Path) -> None:
        """Choose a layer, or a file or folder."""
        self.reset_choices()
        if isinstance(images, (str, Path)) and images not in (FILES, SELECTED):
            self.choice.value, self.path.value = FILES, Path(images)
        else:
            self.choice.value = images

    def files(self, folder: Path, name: str | None = None) -> Path | None:
        """Return the file or folder that holds the images; layers are written into a folder, which is emptied first.

        Args:
            folder: where layers are written.
            name: of the file, where a single layer must have a certain name.

        Raises:
            InputError: nothing is chosen, or a layer cannot be written.
        """
        if self.choice.value == FILES:
            path = chosen_path(self.path)
            if path is None:
                raise InputError(f"{self.label}: choose a file or folder, or one of the layers")
            return path
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
        """Update the choices; the first layer that appears is chosen where nothing else was."""
        super().reset_choices()
        layers = [choice for choice in self.choice.choices if isinstance(choice, Image)]
        if self.choice.value == FILES and self.path.value is None and layers:
            self.choice.value = layers[0]

    def _choices(self, _: Any) -> list[Any]:
        first = [self._optional] if self._optional is not None else []
        layers = [layer for layer in self._viewer.layers if _usable(layer)]
        return [*first, *layers[::-1], *([SELECTED] if self._several else []), FILES]

    def _show_path(self, *_: Any) -> None:
        self.path.visible = self.choice.value == FILES


def _usable(layer: Any) -> bool:
    return isinstance(layer, Image) and not layer.rgb and not RESULT.keys() & layer.metadata.keys()


def chosen_weights(edit: FileEdit) -> Path:
    """Return the chosen file of weights, which may be typed as the name of bundled weights.

    Raises:
        InputError: nothing is chosen, or there is no such file.
    """
    path = chosen_path(edit)
    if path is None:
        raise InputError("Weights: choose a model.pt that a training has written")
    return weights_file(path.name if path == Path(path.name).absolute() else path)  # the widget makes names absolute
