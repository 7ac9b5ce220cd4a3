"""Restoring with maps next to each output, from Python and by the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pssr2_monai.cli.main import main
from pssr2_monai.errors import InputError
from pssr2_monai.fidelity.maps import restore_with_maps
from pssr2_monai.images.image import open_image
from pssr2_monai.restoration.restore import restore


@pytest.fixture
def scans(hr_folder: Path, tmp_path: Path) -> Path:
    """Two LR images."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for path in sorted(hr_folder.glob("*.png"))[:2]:
        image = Image.open(path)
        image.resize((image.width // 4, image.height // 4), Image.Resampling.BILINEAR).save(folder / path.name)
    return folder


def test_a_folder_gets_maps_next_to_each_output(scans: Path, tiny_weights: Path, tmp_path: Path) -> None:
    restored = restore_with_maps(scans, tmp_path / "out", tiny_weights, format="tif", precision="float32")
    restore(scans, tmp_path / "plain", tiny_weights, format="tif", precision="float32")
    assert [mapped.path.name for mapped in restored] == ["cell_0.tif", "cell_1.tif"]
    for mapped in restored:
        assert mapped.fidelity is not None
        with open_image(mapped.path) as image, open_image(tmp_path / "plain" / mapped.path.name) as plain:
            np.testing.assert_array_equal(image.read(), plain.read())
        with open_image(mapped.path.with_name(f"{mapped.path.stem}_fidelity.tif")) as image:
            assert (image.shape, image.dtype) == ((24, 28), np.dtype(np.float32))
        summary = json.loads((tmp_path / "out" / f"{mapped.path.stem}_fidelity.json").read_text())
        assert summary["headline"] == mapped.fidelity.verdict.headline


def test_an_ensemble_writes_its_mean_and_its_spread(scans: Path, tiny_weights: Path, tmp_path: Path) -> None:
    (mapped,) = restore_with_maps(
        scans / "cell_0.png", tmp_path / "a.tif", [tiny_weights, tiny_weights], fidelity=False, uncertainty=True
    )
    assert mapped.fidelity is None
    assert mapped.uncertainty == tmp_path / "a_uncertainty.tif"
    with open_image(mapped.uncertainty) as image:
        assert image.shape == (96, 112)
        assert float(image.read().min()) >= 0
    with pytest.raises(InputError, match="2 files restore as an ensemble; ask for uncertainty"):
        restore_with_maps(scans, tmp_path / "out", [tiny_weights, tiny_weights])


def test_a_map_in_the_way_is_refused_before_any_work(scans: Path, tiny_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "a_fidelity.tif").write_text("another's")
    with pytest.raises(InputError, match=r"a_fidelity.tif: exists already"):
        restore_with_maps(scans / "cell_0.png", tmp_path / "a.tif", tiny_weights)
    assert not (tmp_path / "a.tif").exists()
    restore_with_maps(scans / "cell_0.png", tmp_path / "a.tif", tiny_weights, overwrite=True)


def test_uncertainty_is_not_shared_among_workers(scans: Path, tiny_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave out workers"):
        restore_with_maps(scans, tmp_path / "out", tiny_weights, uncertainty=True, workers=2)


def test_the_command_reports_the_verdict(
    scans: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(scans / "cell_0.png"), str(tmp_path / "a.tif"), "--weights", f"{tiny_weights},{tiny_weights}"]
    with pytest.raises(SystemExit) as stopped:
        main(["restore", *arguments, "--fidelity", "--uncertainty"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    verdict = json.loads((tmp_path / "a_fidelity.json").read_text())
    for words in (
        "a.tif",
        "a_fidelity.tif",
        "a_structures.tif",
        "a_error.tif",
        "a_uncertainty.tif",
        verdict["headline"],
        *verdict["reasons"],
    ):
        assert words in printed


def test_the_plan_counts_the_maps(
    scans: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["restore", str(scans / "cell_0.png"), str(tmp_path / "a.ome.zarr"), "--weights", str(tiny_weights)]
    with pytest.raises(SystemExit):
        main([*arguments, "--fidelity", "--uncertainty", "--dry-run", "--json"])
    (planned,) = json.loads(capsys.readouterr().out)["files"]
    sizes = {Path(output["path"]).name: output["nbytes"] for output in [planned["output"], *planned["maps"]]}
    lr, hr = 24 * 28, 96 * 112
    assert sizes == {
        "a.ome.zarr": hr * 4 // 3,
        "a_fidelity.ome.zarr": lr * 4 * 4 // 3,
        "a_structures.ome.zarr": lr * 4 * 4 // 3,
        "a_error.ome.zarr": lr * 4 * 4 // 3,
        "a_uncertainty.ome.zarr": hr * 4 * 4 // 3,
    }
    with pytest.raises(SystemExit):
        main([*arguments, "--fidelity", "--estimate"])
    printed = capsys.readouterr().out
    assert "a_fidelity.ome.zarr" in printed
    assert "without that of the maps" in printed
    assert list(tmp_path.glob("a*")) == []
