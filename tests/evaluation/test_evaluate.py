"""Scores against interpolation done with PIL and metrics of scikit-image, on images scored by hand."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import wilcoxon
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pssr2_monai.cli.main import main
from pssr2_monai.errors import InputError, UsageError
from pssr2_monai.evaluation.evaluate import evaluate, table
from pssr2_monai.evaluation.filters import denoise
from pssr2_monai.evaluation.fourier_ring_correlation import RingCorrelation, ring_correlation
from pssr2_monai.fidelity.error_map import rse
from pssr2_monai.images.writer import write_image
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.options import RestoreOptions
from pssr2_monai.restoration.restore import restore


def _lr_folder(hr_folder: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in hr_folder.iterdir():
        image = Image.open(path)
        image.resize((image.width // 4, image.height // 4), Image.BILINEAR).save(folder / path.name)
    return folder


def _filtered(image: Image.Image) -> Image.Image:
    return Image.fromarray(denoise(np.asarray(image, np.float32)[None])[0])


def test_scores_of_real_pairs_equal_those_done_by_hand(hr_folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    lr_folder = _lr_folder(hr_folder, tmp_path / "lr")
    result = evaluate(hr_folder, tiny_weights, tmp_path / "out", lr=lr_folder, metrics="fsim,rse")
    restore(lr_folder, tmp_path / "restored", tiny_weights)
    expected = {method: [] for method in ("bilinear", "bicubic", "filter", "model")}
    for path in sorted(hr_folder.iterdir()):
        hr, lr = np.asarray(Image.open(path)), Image.open(lr_folder / path.name)
        images = {
            "bilinear": np.asarray(lr.resize((112, 96), Image.BILINEAR)),
            "bicubic": np.asarray(lr.resize((112, 96), Image.BICUBIC)),
            "filter": np.asarray(_filtered(lr).resize((112, 96), Image.BICUBIC)).round().clip(0, 255).astype(np.uint8),
            "model": np.asarray(Image.open(tmp_path / "restored" / path.name)),
        }
        for method, image in images.items():
            ssim = structural_similarity(hr, image, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
            expected[method].append((peak_signal_noise_ratio(hr, image), ssim))
        against_scan = rse(np.float32(images["model"])[None] / 255, np.float32(lr)[None] / 255)
        own = next(image for image in result["images"] if image["name"] == path.name)["model"]
        assert own["rse"] == pytest.approx(against_scan, abs=0.01)
    for method, scores in expected.items():
        psnr, ssim = np.mean(scores, axis=0)
        assert result["mean"][method]["psnr"] == pytest.approx(psnr, abs=0.02)
        assert result["mean"][method]["ssim"] == pytest.approx(ssim, abs=2e-3)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["mean"] == result["mean"]
    assert "bicubic" in table(result)
    assert table(result).splitlines()[0].endswith("FRC resolution (px)     FSIM   RSE (of 255)")
    picture = Image.open(tmp_path / "out" / "pictures" / "cell_0.png")
    # Twice as large, LR | bicubic | filter | restored | HR | error; below a quarter of each side, four times as large.
    assert picture.size == (6 * (224 + 4) - 4, 22 + 192 + 4 + 192)
    rows = list(csv.DictReader((tmp_path / "out" / "metrics.csv").open()))
    assert [row["method"] for row in rows] == 5 * ["bilinear", "bicubic", "filter", "model"]
    assert rows[3]["image"] == "cell_0.png"
    assert float(rows[3]["psnr"]) == result["images"][0]["model"]["psnr"]
    assert float(rows[3]["fsim"]) == result["images"][0]["model"]["fsim"]
    assert "rsp" not in rows[3]
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000


def test_the_filter_may_be_left_out(hr_folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    plain = evaluate(hr_folder, tiny_weights, tmp_path / "plain", blind_filter=False)
    filtered = evaluate(hr_folder, tiny_weights, tmp_path / "filtered")
    for part in ("mean", "interval", "scored", "against"):
        assert filtered[part].pop("filter") is not None
        assert filtered[part] == plain[part]
    assert "filter" not in table(plain)
    assert "filter" in table(filtered | {"mean": {"filter": plain["mean"]["model"]}})
    assert [row["method"] for row in csv.DictReader((tmp_path / "plain" / "metrics.csv").open())][:3] == list(
        plain["mean"]
    )
    assert Image.open(tmp_path / "plain" / "pictures" / "cell_0.png").width == 5 * (224 + 4) - 4
    assert "filter" not in (tmp_path / "plain" / "report.html").read_text().replace("_filter", "")
    assert (plain["settings"]["blind_filter"], filtered["settings"]["blind_filter"]) == (False, True)


def test_crappified_inputs_follow_the_seed(hr_folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    runs = [evaluate(hr_folder, tiny_weights, tmp_path / str(n), seed=seed) for n, seed in enumerate((0, 0, 1))]
    assert runs[0]["images"] == runs[1]["images"]
    assert runs[0]["mean"]["bicubic"] != runs[2]["mean"]["bicubic"]


def test_images_without_partner_or_of_the_wrong_size_are_named(
    hr_folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    lr_folder = _lr_folder(hr_folder, tmp_path / "lr")
    Image.new("L", (50, 24)).save(lr_folder / "cell_3.png")
    with pytest.raises(InputError, match=r"cell_3\.png \(24 x 50 for 96 x 112 of cell_3\.png\)"):
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


def test_a_blank_image_does_not_spoil_the_means(hr_folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    alone = evaluate(hr_folder, tiny_weights, tmp_path / "alone")
    (tmp_path / "hr").mkdir()
    for path in hr_folder.iterdir():
        (tmp_path / "hr" / path.name).write_bytes(path.read_bytes())
    Image.new("L", (96, 96), 90).save(tmp_path / "hr" / "blank.png")
    result = evaluate(tmp_path / "hr", tiny_weights, tmp_path / "out")
    resolution = alone["mean"]["model"]["frc_resolution"]
    assert result["mean"]["model"]["frc_resolution"] == pytest.approx(resolution, rel=1e-6)
    assert result["scored"]["model"]["frc_resolution"] == 5
    assert "model: FRC resolution of 5 of 6 images" in table(result)
    assert np.isfinite(result["frc"]["correlation"]["model"]).all()


def test_a_constant_image_that_is_restored_as_it_is_does_not_spoil_the_means(
    tiny_weights: Path, tmp_path: Path
) -> None:
    for name, side in (("hr", 96), ("lr", 24)):
        (tmp_path / name).mkdir()
        scene = np.random.default_rng(2).normal(3000, 300, (side, side)).astype("uint16")
        tifffile.imwrite(tmp_path / name / "scene.tif", scene)
        tifffile.imwrite(tmp_path / name / "flat.tif", np.full((side, side), 700, "uint16"))
    result = evaluate(tmp_path / "hr", tiny_weights, tmp_path / "out", lr=tmp_path / "lr")
    scores = {image["name"]: image["bicubic"]["psnr"] for image in result["images"]}
    assert scores["flat.tif"] == np.inf
    assert result["mean"]["bicubic"]["psnr"] == scores["scene.tif"]
    assert result["scored"]["bicubic"]["psnr"] == 1
    assert "bicubic: PSNR of 1, FRC resolution of 1 of 2 images" in table(result)


def test_only_pixels_with_a_truth_and_in_their_masks_are_scored(tiny_weights: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    scene = np.float32(1000 + 200 * gaussian_filter(rng.normal(size=(96, 96)), 3))
    mask = np.full((96, 96), 2, np.uint8)
    mask[:32] = 1
    for name, missing in (("whole", 0), ("lost", 32)):
        for kind in ("hr", "lr", "masks"):
            (tmp_path / name / kind).mkdir(parents=True)
        lr, hr = scene.reshape(24, 4, 24, 4).mean(axis=(1, 3)), scene.copy()
        hr[:missing], lr[: missing // 4] = np.nan, np.nan
        for kind, pixels in (("hr", hr), ("lr", lr), ("masks", mask)):
            tifffile.imwrite(tmp_path / name / kind / "a.tif", pixels)

    def scored(name: str, **options: Any) -> dict[str, Any]:
        folder = tmp_path / name
        return evaluate(folder / "hr", tiny_weights, folder / "out", lr=folder / "lr", blind_filter=False, **options)

    lost, masked = scored("lost"), scored("whole", masks=tmp_path / "whole" / "masks", include=2)
    with Image.fromarray(scene.reshape(24, 4, 24, 4).mean(axis=(1, 3))) as lr:
        error = np.asarray(lr.resize((96, 96), Image.BICUBIC))[40:] - scene[40:]
    low, high = np.percentile(scene[32:], [0.1, 99.9])
    psnr = 20 * np.log10((high - low) / np.sqrt((error**2).mean()))
    assert lost["mean"]["bicubic"]["psnr"] == pytest.approx(psnr, abs=0.6)  # at rows 32 to 40 it differs
    assert masked["mean"]["bicubic"]["psnr"] == pytest.approx(psnr, abs=0.6)
    assert masked["settings"]["mask"] == {"folder": "masks", "include": (2,), "exclude": ()}
    assert "Only pixels in the masks were scored" in (tmp_path / "whole" / "out" / "report.html").read_text()
    for option, words in (
        ({"include": 9}, r"a\.tif: holds no pixel to score"),
        ({"exclude": "1,2"}, "no pixel to score"),
    ):
        with pytest.raises(InputError, match=words):
            scored("whole", masks=tmp_path / "whole" / "masks", **option)
    with pytest.raises(InputError, match="give their folder with masks"):
        scored("whole", include=2)
    tifffile.imwrite(tmp_path / "lost" / "masks" / "a.tif", mask[:90])
    with pytest.raises(InputError, match=r"a\.tif \(90 x 96 for 96 x 96 of a\.tif\): a mask must have the size"):
        scored("whole", masks=tmp_path / "lost" / "masks")
    (tmp_path / "lost" / "masks" / "a.tif").rename(tmp_path / "lost" / "masks" / "b.tif")
    with pytest.raises(InputError, match="have no partner; HR images, LR images and masks"):
        scored("whole", masks=tmp_path / "lost" / "masks")


def test_intervals_and_tests_compare_image_by_image(hr_folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    result = evaluate(hr_folder, tiny_weights, tmp_path / "out")
    gaps = [image["model"]["ssim"] - image["bicubic"]["ssim"] for image in result["images"]]
    found = result["against"]["bicubic"]["ssim"]
    assert found["mean"] == pytest.approx(np.mean(gaps))
    assert found["p"] == pytest.approx(wilcoxon(gaps).pvalue)
    low, high = found["interval"]
    assert min(gaps) <= low < np.mean(gaps) < high <= max(gaps)
    assert result["settings"]["compared"] == "5 images"
    assert result["verdict"]["headline"] in table(result)
    assert len(result["frc"]["frequency"]) == len(result["frc"]["correlation"]["model"])


def test_frames_of_a_lone_stack_are_compared_and_its_pixel_size_is_used(tiny_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "hr").mkdir()
    stack = np.random.default_rng(0).integers(0, 255, (7, 64, 64), dtype=np.uint8)
    write_image(tmp_path / "hr" / "s.tif", stack, axes="ZYX", pixel_size={"Y": 0.004, "X": 0.004})
    result = evaluate(tmp_path / "hr", tiny_weights, tmp_path / "out")
    assert result["settings"]["compared"] == "7 frames or blocks of one file"
    assert result["against"]["bilinear"]["psnr"]["images"] == 7
    assert result["images"][0]["samples"] == 7
    assert result["images"][0]["pixel_size_nm"] == pytest.approx(4)
    assert any("of one file" in caution for caution in result["verdict"]["cautions"])


def test_normalisation_and_pixel_size_may_be_chosen(hr_folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    fitted = evaluate(hr_folder, tiny_weights, tmp_path / "a", pixel_size=0.01)
    pssr2 = evaluate(hr_folder, tiny_weights, tmp_path / "b", normalise="pssr2")
    assert fitted["mean"]["model"]["psnr"] == pssr2["mean"]["model"]["psnr"]
    assert fitted["mean"]["model"]["psnr_fitted"] != pssr2["mean"]["model"]["psnr_fitted"]
    assert fitted["images"][0]["pixel_size_nm"] == 10
    for option in ({"normalise": "csbdeep"}, {"pixel_size": 0.0}):
        with pytest.raises(InputError, match=next(iter(option))):
            evaluate(hr_folder, tiny_weights, tmp_path / "c", **option)
    assert not (tmp_path / "c").exists()


def test_options_of_restoring_are_taken_as_keywords_or_together(
    hr_folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "hr"
    folder.mkdir()
    Image.open(hr_folder / "cell_0.png").resize((448, 384), Image.BICUBIC).save(folder / "large.png")
    runs = [
        evaluate(folder, tiny_weights, tmp_path / name, *options, **keywords)["mean"]
        for name, options, keywords in (
            ("default", (), {}),
            ("keyword", (), {"window": 64, "precision": "float32"}),
            ("together", (RestoreOptions(window=64, precision="float32"),), {}),
            ("both", (RestoreOptions(window=96, precision="float32"),), {"window": 64}),
        )
    ]
    assert runs[1]["model"] == runs[2]["model"] == runs[3]["model"]
    assert runs[0]["bicubic"] == runs[1]["bicubic"]
    assert runs[0]["model"] == pytest.approx(runs[1]["model"], rel=0.01)


@pytest.mark.parametrize(("keyword", "words"), [("windw", "did you mean 'window'"), ("normalize", "'normalise'")])
def test_a_wrong_option_is_refused_before_any_work(tmp_path: Path, keyword: str, words: str) -> None:
    with pytest.raises(UsageError, match=f"evaluate: there is no option '{keyword}'; .*{words}"):
        evaluate(tmp_path / "none", tmp_path / "none.pt", tmp_path / "out", **{keyword: 1})
    with pytest.raises(UsageError, match="there is no option 'overwrite'"):
        evaluate(tmp_path / "none", tmp_path / "none.pt", tmp_path / "out", overwrite=True)


def test_the_default_window_in_the_help_is_the_one_that_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("--window ")]
    numbers = [int(number) for number in re.findall(r"\d+", line.split("by default")[1])]
    assert numbers == [SeamlessInferer().window, SeamlessInferer(volume=True).window]


def test_the_correlation_with_hr_is_computed_once_for_each_method(
    hr_folder: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(first: np.ndarray, second: np.ndarray) -> RingCorrelation:
        calls.append(first.shape)
        return ring_correlation(first, second)

    for module in ("compare", "fourier_ring_correlation"):
        monkeypatch.setattr(f"pssr2_monai.evaluation.{module}.ring_correlation", counted)
    evaluate(hr_folder, tiny_weights, tmp_path / "out")
    assert calls == [(1, 96, 112)] * 5 * 4
