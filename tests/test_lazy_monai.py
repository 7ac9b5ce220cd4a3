"""MONAI imported without what the command does not use."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tifffile

from pssr2_monai.lazy_monai import OPTIM, STAND_INS, Lazy

COMMANDS = """
import json, sys
from pssr2_monai.cli.main import main

def run(*words):
    try:
        main(words)
    except SystemExit as end:
        assert not end.code, end.code
    return sorted({name.partition(".")[0] for name in sys.modules} | sys.modules.keys())

info, restore = run("info", sys.argv[1]), run("restore", sys.argv[1], sys.argv[2], "--weights", "em_2x")
import monai, torch
from monai.transforms.utils import measure, optional_import
works = [
    monai.transforms.RandGaussianNoise(prob=1)(torch.ones(1, 4, 4)).shape == (1, 4, 4),
    int(measure.label(torch.tensor([[1, 0, 1]]).numpy()).max()) == 2,  # by scikit-image
    not optional_import("no_such_package")[1],
    sys.modules.get("matplotlib.pyplot", monai) is not None,
]
json.dump([info, restore, works], open(sys.argv[3], "w"))
"""


def test_the_command_imports_no_more_than_it_uses(tmp_path: Path) -> None:
    image, result = tmp_path / "scan.tif", tmp_path / "modules.json"
    tifffile.imwrite(image, np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8))
    command = [sys.executable, "-c", COMMANDS, image, tmp_path / "restored.tif", result]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    info, restore, works = json.loads(result.read_text())
    assert not {"torch", "monai", "scipy.optimize", "zarr"} & set(info)
    unused = {"mlflow", "pandas", "sklearn", "skimage", "scipy.optimize", "scipy.signal", "zarr", "itk", "nibabel"}
    unused |= {"torch.distributed.optim", "torch._dynamo", "tensorboard", "matplotlib"}
    assert not unused & set(restore)
    assert {"torch", "monai.networks.blocks"} <= set(restore)
    assert all(works), works


def test_a_lazy_object_is_imported_when_it_is_used() -> None:
    loaded = []

    def load() -> type[OrderedDict[str, int]]:
        loaded.append(1)
        return OrderedDict

    lazy = Lazy(load)
    assert not loaded
    assert isinstance(OrderedDict(), lazy)  # type: ignore[arg-type]
    assert not isinstance({}, lazy)  # type: ignore[arg-type]
    assert issubclass(OrderedDict, lazy)  # type: ignore[arg-type]
    assert lazy(a=1) == {"a": 1}
    assert lazy.fromkeys("b", 2) == {"b": 2}
    assert lazy[str, int].__origin__ is OrderedDict

    class Derived(lazy):  # type: ignore[misc]
        pass

    assert Derived.__mro__[1] is OrderedDict
    with pytest.raises(AttributeError):
        _ = lazy.missing


def test_the_class_that_ignite_asks_for_is_that_of_the_package_once_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand_in = STAND_INS[OPTIM]
    package = ModuleType(OPTIM)
    package.ZeroRedundancyOptimizer = OrderedDict  # type: ignore[attr-defined]
    for loaded, expected in ((None, False), (stand_in, False), (package, True)):
        monkeypatch.setitem(sys.modules, OPTIM, loaded)
        assert isinstance(OrderedDict(), stand_in.ZeroRedundancyOptimizer) is expected


@pytest.mark.parametrize("flag", [True, False])
def test_a_lazy_flag_has_the_value_of_what_it_loads(flag: bool) -> None:
    assert bool(Lazy(lambda: flag)) is flag
