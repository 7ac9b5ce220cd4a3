"""Preparing a run: what it opens and loads, once; what it will write; what it refuses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pssr2_monai.errors import InputError
from pssr2_monai.fidelity.maps import restore_with_maps
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.restoration.options import RestoreOptions
from pssr2_monai.restoration.plan import OPEN_FILES, match_outputs, plan_restoring, prepare
from pssr2_monai.restoration.restore import restore, restore_prepared


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of three images."""
    (tmp_path / "scans").mkdir()
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 256, (40, 50)).astype(np.uint8)
        write_image(tmp_path / "scans" / f"{number}.tif", image, axes="YX", pixel_size={"Y": 0.01, "X": 0.01})
    return tmp_path / "scans"


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file is opened, weights are loaded, targets are matched and room is checked."""
    counts: Counter[str] = Counter()

    def count(module: str, function: Any, name: Any) -> None:
        def counting(*args: Any, **kwargs: Any) -> Any:
            counts[name(*args)] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(f"pssr2_monai.{module}.{function.__name__}", counting)

    for module in ("restoration.plan", "fidelity.uncertainty", "fidelity.check_fidelity", "images.image"):
        count(module, open_image, lambda path, *_: Path(path).name)
    for module in ("restoration.plan", "fidelity.uncertainty"):
        count(module, load_weights, lambda *_: "weights")
    from pssr2_monai.images.writer import target_files
    from pssr2_monai.restoration.estimate import check_output_room

    count("restoration.plan", target_files, lambda *_: "targets")
    for module in ("restoration.plan", "restoration.restore", "fidelity.maps"):
        count(module, check_output_room, lambda *_: "room")
    return counts


SOURCES = ("0.tif", "1.tif", "2.tif")


def test_a_plan_opens_each_file_once(scans: Path, tiny_weights: Path, tmp_path: Path, counts: Counter[str]) -> None:
    plan_restoring(scans, tmp_path / "out", tiny_weights)
    assert counts == dict.fromkeys([*SOURCES, "weights", "targets", "room"], 1)
    assert not (tmp_path / "out").exists()


def test_a_run_opens_each_file_once(scans: Path, tiny_weights: Path, tmp_path: Path, counts: Counter[str]) -> None:
    restore(scans, tmp_path / "out", tiny_weights)
    assert counts == dict.fromkeys([*SOURCES, "weights", "targets", "room"], 1)


def test_of_many_files_a_bounded_number_stays_open(tiny_weights: Path, tmp_path: Path, counts: Counter[str]) -> None:
    (tmp_path / "scans").mkdir()
    names = [f"{number}.png" for number in range(OPEN_FILES + 2)]
    for number, name in enumerate(names):
        write_image(tmp_path / "scans" / name, np.full((8, 8), number, np.uint8), axes="YX", pixel_size={})
    with prepare(tmp_path / "scans", tmp_path / "out", tiny_weights, RestoreOptions()) as run:
        assert [file.image.read()[0, 0] for file in run.files] == list(range(OPEN_FILES + 2))
    assert {name: counts[name] for name in names} == dict.fromkeys(names[:-2], 1) | dict.fromkeys(names[-2:], 2)


def test_a_source_that_changes_before_its_turn_is_refused(scans: Path, tiny_weights: Path, tmp_path: Path) -> None:
    run = prepare(scans, tmp_path / "out", tiny_weights, RestoreOptions())
    write_image(scans / "1.tif", np.zeros((40, 50), np.float32), axes="YX", pixel_size={}, overwrite=True)
    with pytest.raises(InputError, match=r"1\.tif: was changed while it was read; restore it when it is complete"):
        restore_prepared(run)


@pytest.mark.parametrize("uncertainty", [False, True])
def test_maps_share_the_preparation(
    uncertainty: bool, scans: Path, tiny_weights: Path, tmp_path: Path, counts: Counter[str]
) -> None:
    restore_with_maps(scans, tmp_path / "out", tiny_weights, uncertainty=uncertainty)
    # To restore, and to compare with its output, which has the same name.
    assert counts == dict.fromkeys(SOURCES, 3) | dict.fromkeys(["weights", "targets", "room"], 1)


def test_each_member_of_an_ensemble_is_loaded_once(
    scans: Path, tiny_weights: Path, tmp_path: Path, counts: Counter[str]
) -> None:
    several = [tiny_weights, tiny_weights, tiny_weights]
    restore_with_maps(scans / "0.tif", tmp_path / "out.tif", several, fidelity=False, uncertainty=True)
    assert counts["weights"] == 3


def test_the_plan_is_what_runs(scans: Path, tiny_weights: Path, tmp_path: Path) -> None:
    options = RestoreOptions(window=64, precision="float32", format="ome.zarr")
    plan = plan_restoring(scans, tmp_path / "out", tiny_weights, options)
    written = restore(scans, tmp_path / "out", tiny_weights, options)
    assert [file.output.path for file in plan.files] == written
    assert (plan.finished, plan.problem) == (0, None)
    expected = {"weights": str(tiny_weights), "scale": 4, "n_frames": [1, 1], "precision": "float32", "window": 64}
    assert plan.settings.items() >= expected.items()
    for file in plan.files:
        assert (file.image.axes, file.image.shape, file.image.dtype) == ("YX", (40, 50), np.uint8)
        with open_image(file.output.path) as image:
            assert image.shape == file.output.shape == (160, 200)
    with pytest.raises(InputError, match="exists already"):
        plan_restoring(scans, tmp_path / "out", tiny_weights, options)


def test_a_plan_names_what_is_in_the_way_of_writing(
    scans: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    plan = plan_restoring(scans, tmp_path / "out", tiny_weights)
    assert plan.problem is not None
    assert "may not be written to" in plan.problem
    assert plan.problem in str(plan)


def test_workers_restore_with_networks_of_their_own(scans: Path, tiny_weights: Path, tmp_path: Path) -> None:
    options = RestoreOptions(workers=2, device="meta")  # a device that this process cannot compute on
    run = prepare(scans, tmp_path / "out", tiny_weights, options)
    assert next(run.network.parameters()).device == torch.device("cpu")
    assert [file.pair for file in run.files] == list(run.pairs)


def test_files_that_cannot_be_restored_are_left_out_where_asked(scans: Path, tmp_path: Path) -> None:
    (scans / "bad.tif").write_text("no image")
    record = Record({}, 2)
    with pytest.raises(InputError, match=r"bad\.tif"):
        match_outputs(scans, tmp_path / "out", record)
    files = match_outputs(scans, tmp_path / "out", record, RestoreOptions(skip_bad=True, format="png"))
    assert [file.pair for file in files] == [
        (scans / f"{number}.tif", tmp_path / "out" / f"{number}.png") for number in range(3)
    ]
    deep = Record({}, 2, (5, 1))
    with pytest.raises(InputError, match="none of its images can be restored"):
        match_outputs(scans, tmp_path / "out", deep, RestoreOptions(skip_bad=True))
    with pytest.raises(InputError, match=r"0\.tif: axes 'YX' hold 1 frame, but the weights take 5"):
        match_outputs(scans, tmp_path / "out", deep)


def test_maps_are_planned_from_the_open_image(scans: Path, tiny_weights: Path, tmp_path: Path) -> None:
    images: list[LazyImage] = []

    def maps(image: LazyImage, output: Any) -> list[Any]:
        images.append(image)
        return [output]

    plan = plan_restoring(scans, tmp_path / "out", tiny_weights, maps=maps)
    assert [image.path.name for image in images] == list(SOURCES)
    assert plan.estimate is not None
    assert len(plan.estimate.outputs) == 6
