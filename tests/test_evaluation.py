"""Scores against interpolation done with PIL and metrics of scikit-image, on images scored by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pssr2_monai.errors import InputError
from pssr2_monai.evaluation import evaluate, table
from pssr2_monai.io.writer import write_image
from pssr2_monai.restoring import restore


def _lr_folder(hr_folder: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in hr_folder.iterdir():
        image = Image.open(path)
        image.resize((image.width // 4, image.height // 4), Image.BILINEAR).save(folder / path.name)
    return folder


def test_scores_of_real_pairs_equal_those_done_by_hand(hr_folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    lr_folder = _lr_folder(hr_folder, tmp_path / "lr")
    result = evaluate(hr_folder, tiny_weights, tmp_path / "out", lr=lr_folder)
    restore(lr_folder, tmp_path / "restored", tiny_weights)
    expected = {method: [] for method in ("bilinear", "bicubic", "model")}
    for path in sorted(hr_folder.iterdir()):
        hr, lr = np.asarray(Image.open(path)), Image.open(lr_folder / path.name)
        images = {
            "bilinear": np.asarray(lr.resize((112, 96), Image.BILINEAR)),
            "bicubic": np.asarray(lr.resize((112, 96), Image.BICUBIC)),
            "model": np.asarray(Image.open(tmp_path / "restored" / path.name)),
        }
        for method, image in images.items():
            ssim = structural_similarity(hr, image, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
            expected[method].append((peak_signal_noise_ratio(hr, image), ssim))
    for method, scores in expected.items():
        psnr, ssim = np.mean(scores, axis=0)
        assert result["mean"][method]["psnr"] == pytest.approx(psnr, abs=0.02)
        assert result["mean"][method]["ssim"] == pytest.approx(ssim, abs=2e-3)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["mean"] == result["mean"]
    assert "bicubic" in table(result)
    picture = Image.open(tmp_path / "out" / "pictures" / "cell_0.png")
    assert picture.size == (4 * 112 + 3 * 4, 96 + 22)


def test_crappified_inputs_follow_the_seed(hr_folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    runs = [evaluate(hr_folder, tiny_weights, tmp_path / str(n), seed=seed) for n, seed in enumerate((0, 0, 1))]
    assert runs[0]["images"] == runs[1]["images"]
    assert runs[0]["mean"]["bicubic"] != runs[2]["mean"]["bicubic"]


def test_images_without_partner_or_of_the_wrong_size_are_named(
    hr_folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    lr_folder = _lr_folder(hr_folder, tmp_path / "lr")
    Image.new("L", (50, 24)).save(lr_folder / "cell_3.png")
    with pytest.raises(InputError, match=r"cell_3\.png \(24 x 50 beside 96 x 112 of cell_3\.png\)"):
        evaluate(hr_folder, tiny_weights, tmp_path / "out", lr=lr_folder)
    (lr_folder / "cell_3.png").unlink()
    with pytest.raises(InputError, match=r"cell_3\.png in .*: have no partner"):
        evaluate(hr_folder, tiny_weights, tmp_path / "out", lr=lr_folder)
    assert not (tmp_path / "out").exists()


def test_frames_of_a_pair_must_agree(tiny_weights: Path, tmp_path: Path) -> None:
    for name, count, side in (("hr", 3, 64), ("lr", 5, 16)):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "s.tif", np.zeros((count, side, side), np.uint8), axes="ZYX", pixel_size={})
    with pytest.raises(InputError, match=r"s\.tif .* with 5 and 3 frames"):
        evaluate(tmp_path / "hr", tiny_weights, tmp_path / "out", lr=tmp_path / "lr")


def test_equal_images_make_valid_json(tiny_weights: Path, tmp_path: Path) -> None:
    for name, side in (("hr", 64), ("lr", 16)):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "flat.png", np.full((side, side), 90, np.uint8), axes="YX", pixel_size={})
    evaluate(tmp_path / "hr", tiny_weights, tmp_path / "out", lr=tmp_path / "lr")
    text = (tmp_path / "out" / "metrics.json").read_text()
    assert "Infinity" not in text
    assert json.loads(text)["mean"]["bicubic"]["psnr"] is None
