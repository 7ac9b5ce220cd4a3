"""The record of a training: what it depended on, and the same weights from it."""

from __future__ import annotations

import copy
import hashlib
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from pssr2_monai.errors import InputError
from pssr2_monai.training.run_record import hash_of, read_run, report_differences, revision
from pssr2_monai.training.train import train


@pytest.fixture
def record(tiny_weights: Path) -> dict[str, Any]:
    """The record of a training of two epochs."""
    return read_run(tiny_weights.with_name("run.json"))


def test_a_record_names_all_that_a_training_depended_on(record: dict[str, Any], hr_folder: Path) -> None:
    expected = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in hr_folder.iterdir()}
    assert record["images"] == {"label": expected}
    assert record["versions"]["torch"] == torch.__version__
    assert (record["device"], record["seed"], record["config"]["tile"]) == ("cpu", 0, 32)
    assert record["threads"] >= 1
    assert record["config"]["resume"] is None


def test_a_repeated_training_gives_the_same_weights_also_with_loader_processes(
    tiny_weights: Path, hr_folder: Path, record: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pssr2_monai")
    threads = torch.get_num_threads()
    torch.set_num_threads(record["threads"])  # another test may have changed them
    try:
        again = train(hr_folder, tmp_path / "run", repeat=tiny_weights.parent, num_workers=2)
    finally:
        torch.set_num_threads(threads)
    first, second = (torch.load(path, weights_only=True)["model"] for path in (tiny_weights, again))
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items())
    assert "repeat: images, versions, device and threads are those of the earlier training" in caplog.text
    assert read_run(again.parent)["images"] == record["images"]


def test_what_differs_is_reported_by_name(record: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    now = copy.deepcopy(record)
    images = now["images"]["label"]
    images["cell_1.png"] = "0"
    images["new.png"] = images.pop("cell_2.png")
    now["versions"]["torch"], now["threads"], now["device"] = "9.9", 7, "cuda"
    assert report_differences(record, now) == [
        "label images changed: cell_1.png",
        "label images missing: cell_2.png",
        "label images new: new.png",
        f"torch: {torch.__version__}, now 9.9",
        "device: cpu, now cuda",
        f"threads: {record['threads']}, now 7",
    ]
    assert "repeat: label images changed: cell_1.png" in caplog.text


def test_hashes_show_changes_in_files_and_folders_and_in_pieces_of_large_ones(tmp_path: Path) -> None:
    folder, large = tmp_path / "slices", tmp_path / "large.tif"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.tif").write_bytes(bytes([number]))
    before = hash_of(folder)
    (folder / "1.tif").rename(folder / "3.tif")
    assert hash_of(folder) != before
    large.write_bytes(bytes(3000))
    whole, pieces = hash_of(large), hash_of(large, sampled_bytes=2000)
    assert whole == hashlib.sha256(bytes(3000)).hexdigest() != pieces
    large.write_bytes(bytes(2999) + b"1")
    assert hash_of(large, sampled_bytes=2000) != pieces


@pytest.mark.trust
@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "is not the run.json of a training"),
        ('{"version": 1, "versions": {}, "images": {}}', "is not the run.json of a training"),
        ('{"version": 9, "versions": {}, "images": {}, "config": {}}', "by a later release"),
        ('{"version": 1, "versions": {}, "images": {}, "config": {"seed": "$__import__(\'os\')"}}', "seed"),
    ],
)
def test_a_record_of_others_is_data(text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=match):
        read_run(tmp_path / "run.json")


def test_a_repeated_training_keeps_its_settings(hr_folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    record = tiny_weights.with_name("run.json")
    with pytest.raises(InputError, match="--lr: a repeated training keeps what it was started with"):
        train(hr_folder, tmp_path / "run", repeat=record, lr=0.1)
    with pytest.raises(InputError, match="resumed or repeated; leave one of them out"):
        train(hr_folder, tiny_weights.parent, repeat=record, resume=True)
    with pytest.raises(InputError, match=r"repeat: .*run\.json: there is no such file"):
        train(hr_folder, tmp_path / "run", repeat=tmp_path / "run.json")


def test_the_revision_is_that_of_a_checkout_alone(tmp_path: Path, project_root: Path) -> None:
    assert revision(tmp_path) is None
    found = revision(project_root)
    assert found is None or len(found.removesuffix("-dirty")) == 40
