"""The verbs of the command ``pssr2``: one plain function each, whose docstring is its help.

Heavy packages are imported inside the functions, so that ``pssr2 --help`` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable

from pssr2_monai.commands.answer import Answer
from pssr2_monai.commands.completion import completion
from pssr2_monai.commands.instrument import calibrate, register
from pssr2_monai.commands.looking import crappify, info, preprocess
from pssr2_monai.commands.restoring import evaluate, restore
from pssr2_monai.commands.training import demo, train
from pssr2_monai.commands.viewing import napari
from pssr2_monai.commands.weights import convert, export

__all__ = ["COMMANDS"]

COMMANDS: dict[str, Callable[..., Answer | None]] = {
    each.__name__: each
    for each in (
        train,
        restore,
        evaluate,
        info,
        calibrate,
        register,
        crappify,
        preprocess,
        export,
        convert,
        demo,
        napari,
        completion,
    )
}
"""Every verb by its name, in the order in which they are listed."""
