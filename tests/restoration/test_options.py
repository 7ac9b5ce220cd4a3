"""The options of restoring: validated when they are made, merged by name, sent to other processes."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import numpy as np
import pytest

from pssr2_monai.errors import InputError, UsageError
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.options import RestoreOptions, merge_options
from pssr2_monai.restoration.restore import restore


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 100}, "window: 100 LR pixels; take a multiple of 32"),
        ({"overlap": 0.05}, "overlap: 0.05 of a window of 640"),
        ({"orientations": 3}, "orientations: 3 is not 1, 4 or 8"),
        ({"precision": "float8"}, "precision: 'float8' is unknown"),
        ({"precision": "int8"}, "precision 'int8': needs backend 'openvino'"),
        ({"backend": "onnx"}, "backend: 'onnx' is unknown"),
        ({"workers": 0}, "workers: 0 is not a number of processes"),
        ({"workers": True}, "workers: True is not a number of processes"),
        ({"workers": 2, "scheduler": "tcp://host:1"}, "workers and scheduler: give one of them"),
        ({"workers": 2, "profile": "profile"}, "profile: measures one process"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RestoreOptions(**options)  # type: ignore[arg-type]


def test_every_option_is_described_once() -> None:
    documented = inspect.getdoc(RestoreOptions) or ""
    for name in inspect.signature(RestoreOptions).parameters:
        assert documented.count(f"\n    {name}: ") == 1, name


def test_images_of_two_scales_are_not_turned_by_a_quarter() -> None:
    record = Record(network={}, scale=[1, 2, 4])
    with pytest.raises(InputError, match="orientations: 8 needs one scale of Y and X, not"):
        RestoreOptions(orientations=8).inferer(record)
    assert RestoreOptions(orientations=4).inferer(record).orientations == 4


def test_keywords_replace_options_and_unknown_ones_are_refused(tiny_weights: Path, tmp_path: Path) -> None:
    options = RestoreOptions(window=64, axes="ZYX")
    assert merge_options(options, {"window": 96, "overwrite": True}) == RestoreOptions(96, axes="ZYX", overwrite=True)
    assert merge_options(None, {}) == RestoreOptions()
    with pytest.raises(InputError, match="window: 100"):
        merge_options(options, {"window": 100})
    write_image(tmp_path / "scan.tif", np.zeros((16, 16), np.uint8), axes="YX", pixel_size={})
    with pytest.raises(UsageError, match="restore: there is no option 'windw'; did you mean 'window'"):
        restore(tmp_path / "scan.tif", tmp_path / "out.tif", tiny_weights, windw=64)
    assert not (tmp_path / "out.tif").exists()


def test_options_travel_to_other_processes() -> None:
    options = RestoreOptions(window=96, precision="float32", profile=Path("profile"))
    assert pickle.loads(pickle.dumps(options)) == options


def test_the_inferer_is_that_of_the_networks_images() -> None:
    options = RestoreOptions(precision="float32")
    plane, volume = options.inferer(Record({}, 4)), options.inferer(Record({}, [1, 4, 4], (8, 8)))
    assert (plane.window, plane.volume, plane.precision) == (640, False, "float32")
    assert (volume.window, volume.volume) == (96, True)
