"""MONAI without what the command does not use: its import takes 3 of the 4 seconds before a verb begins.

``import monai`` executes each of its modules and imports every optional package that is installed, MLflow, pandas and
scikit-learn among them. Here its packages are executed, and optional packages when they are used for the first time.
Only the command does this: it changes how MONAI is loaded, for the whole process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial, wraps
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

OPTIM = "torch.distributed.optim"  # takes 0.8 s; Ignite asks whether an optimizer is one of its class


class Lazy:
    """An object that is imported when it is first used, as a module, function, base class, class of a check or flag."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load

    def __getattr__(self, name: str) -> Any:
        return getattr(self._load(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._load()(*args, **kwargs)

    def __getitem__(self, key: Any) -> Any:
        return self._load()[key]

    def __bool__(self) -> bool:
        return bool(self._load())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._load(),)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, self._load())

    def __subclasscheck__(self, subclass: Any) -> bool:
        return issubclass(subclass, self._load())


def _optimizer() -> Any:
    """The class that Ignite asks for; an empty tuple of classes while no object can be of it."""
    package = sys.modules.get(OPTIM)
    return () if package in (None, STAND_INS[OPTIM]) else package.ZeroRedundancyOptimizer


# In the place of packages while MONAI and Ignite are imported; None stands for one that is not installed.
STAND_INS: dict[str, Any] = {OPTIM: ModuleType(OPTIM), "matplotlib.pyplot": None}  # the latter is for Jupyter alone
STAND_INS[OPTIM].ZeroRedundancyOptimizer = Lazy(_optimizer)


class _Finder:
    """Stands first among the finders of modules until MONAI is imported; Ignite may come before it."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name in ("ignite", "monai"):
            sys.modules.update(
                {module: stand_in for module, stand_in in STAND_INS.items() if module not in sys.modules}
            )
        if name == "monai":
            sys.meta_path.remove(cls)
            _prepare()
        return None


def defer_optional_packages() -> None:
    """Let MONAI import optional packages when they are used, if it has not been imported."""
    if "monai" not in sys.modules and _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


def _prepare() -> None:
    """Load ``monai.utils.module`` ahead of MONAI, and replace two of its functions, by which MONAI imports."""
    monai = find_spec("monai")
    if monai is None or not monai.submodule_search_locations:
        return
    path = Path(monai.submodule_search_locations[0], "utils", "module.py")
    spec = spec_from_file_location("monai.utils.module", path)
    if spec is None or spec.loader is None or not path.is_file():
        return
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    load_submodules, optional_import = module.load_submodules, module.optional_import

    def load_packages(package: ModuleType, load_all: bool = True, exclude_pattern: str = "") -> Any:
        """What MONAI calls at the end of its ``__init__``: first for packages, then for all modules."""
        if load_all:
            module.load_submodules = load_submodules  # type: ignore[attr-defined]
            return [], []
        import_module("monai.utils").module = module  # type: ignore[attr-defined]
        for name, stand_in in STAND_INS.items():
            if sys.modules.get(name, False) is stand_in:
                del sys.modules[name]
        return load_submodules(package, load_all, exclude_pattern=exclude_pattern)

    @wraps(optional_import)
    def lazily(module: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if module in sys.modules or module.startswith("monai."):
            return optional_import(module, *args, **kwargs)
        imported = cache(partial(optional_import, module, *args, **kwargs))
        return Lazy(lambda: imported()[0]), Lazy(lambda: imported()[1])

    module.load_submodules, module.optional_import = load_packages, lazily  # type: ignore[attr-defined]
