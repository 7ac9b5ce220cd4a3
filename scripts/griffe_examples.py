"""An extension of mkdocstrings, named in mkdocs.yml, that shows the section "Example:" of docstrings as code.

mkdocstrings itself does so only for a section named "Examples:".
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

__all__ = ["ExampleSections"]


class ExampleSections(Extension):
    """Rename the section before docstrings are parsed."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
