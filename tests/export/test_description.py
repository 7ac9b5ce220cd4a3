"""The description of a package: axes, sizes, scales, citations, its documentation, example and cover."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from torch import nn

from pssr2_monai.errors import InputError
from pssr2_monai.export.bioimageio import FILES
from pssr2_monai.export.description import PackageImages, add_hashes, cover_of, describe, documentation, example_of
from pssr2_monai.export.grey_levels import PackageSettings
from pssr2_monai.images.intensity import Intensity
from pssr2_monai.networks.record import Record

pytest.importorskip("bioimageio.spec")


def _images(scale: int | list[int] = 2, **recorded: Any) -> PackageImages:
    return PackageImages(Record({}, scale, **recorded), Intensity(10, 200), "uint8")


def test_axes_sizes_and_scales_of_planes_runs_and_volumes() -> None:
    plane = _images(pixel_size={"Y": 0.004, "X": 0.004})
    assert (plane.axes, plane.stacked, plane.halo, plane.magnification) == ("BCYX", False, {"Y": 32, "X": 32}, "2x")
    assert plane.pixel_size_nm("Y") == 4.0
    assert plane.min_size("X") == 65
    run = _images(n_frames=(5, 1))
    assert (run.axes, run.min_size("Z"), run.pixel_size_nm("Z")) == ("BCZYX", 5, None)
    volume = _images([4, 1, 1])
    assert (volume.axes, volume.halo["Z"], volume.min_size("Z"), volume.magnification) == (
        "BCZYX",
        8,
        17,
        "4x1x1 (ZYX)",
    )


def test_the_description_states_tensors_purpose_and_citations() -> None:
    images = _images(pixel_size={"Y": 0.004, "X": 0.004})
    settings = PackageSettings(authors="Ada Lovelace; C. Babbage", cite="Lovelace 1843, Notes doi:10.1234/abcd")
    content = describe(nn.Conv2d(1, 2, 3), images, settings, FILES)
    assert content["name"] == "Point-scanning super-resolution 2x Conv2d"
    assert content["description"].startswith("Restores at 2x the resolution scans")
    assert [author["name"] for author in content["authors"]] == ["Ada Lovelace", "C. Babbage"]
    assert content["cite"][-1] == {"text": "Lovelace 1843, Notes", "doi": "10.1234/abcd"}
    assert len(content["cite"]) == 4
    y = content["inputs"][0]["axes"][2]
    assert y == {"type": "space", "id": "y", "scale": 8.0, "unit": "nanometer", "size": {"min": 65, "step": 1}}
    assert content["inputs"][0]["data"] == {"type": "uint8", "range": [0, 255]}
    x = content["outputs"][0]["axes"][3]
    assert (x["scale"], x["halo"], x["size"]) == (4.0, 64, {"tensor_id": "image", "axis_id": "x"})
    config = content["config"]["bioimageio"]
    assert config["model_parameter_count"] == 9 * 2 + 2
    assert config["reproducibility_tolerance"][0]["absolute_tolerance"] == pytest.approx(1 + 0.01 * 190 / 255)
    assert json.loads(json.dumps(content)) == content
    assert describe(nn.Identity(), _images(1), PackageSettings(), FILES)["description"].startswith("Denoises scans")
    with pytest.raises(InputError, match="--cite 'Lovelace 1843': ends with no DOI"):
        describe(nn.Identity(), images, PackageSettings(cite="Lovelace 1843"), FILES)


def test_the_documentation_states_scale_size_and_citations() -> None:
    images = _images(pixel_size={"Y": 0.004, "X": 0.005})
    content = describe(nn.Identity(), images, PackageSettings(name="A & B"), FILES)
    text = documentation(content, images)
    assert text.startswith("# A & B\n")
    assert "Takes uint8 grey levels and returns them on the same scale; 10 is black and 200 white." in text
    assert "The output is 2x as\nlarge, its pixel size Y 4 nm, X 5 nm." in text
    assert text.count("\n- ") == 3
    assert "- Cardoso et al. 2022, MONAI, doi:10.48550/arXiv.2211.02701" in text
    assert "its pixel size unknown" in documentation(content, _images())


def test_hashes_are_those_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"abc")
    content = {"covers": [{"source": "a.txt"}], "name": "x"}
    add_hashes(content, tmp_path)
    assert content["covers"] == [{"source": "a.txt", "sha256": hashlib.sha256(b"abc").hexdigest()}]


def test_the_example_is_the_middle_of_a_scan_or_texture(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (9, 200, 150), np.uint8)
    tifffile.imwrite(tmp_path / "scan.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    example = example_of(_images(n_frames=(3, 1)), tmp_path / "scan.tif")
    np.testing.assert_array_equal(example, stack[3:6, 36:164, 11:139])
    texture = example_of(_images(), None)
    assert (texture.shape, texture.dtype) == ((1, 128, 128), np.uint8)
    assert 10 <= texture.min() < texture.max() <= 200
    assert example_of(_images([2, 1, 1]), None).shape == (20, 80, 80)


def test_the_cover_shows_both_images_in_one_grey_window() -> None:
    restored = np.kron(np.tile([[50, 150]], (16, 8)), np.ones((2, 2)))[None]
    cover = np.asarray(cover_of(restored[:, ::2, ::2], restored))
    assert cover.shape == (256, 512)
    left, right = cover[:, :240].astype(float), cover[:, 272:].astype(float)
    assert left.mean() == pytest.approx(127, abs=8)
    assert right.mean() == pytest.approx(127, abs=8)
