"""Calibration from files to a preset that training takes: what was put in comes out; bad input is named."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigParser
from PIL import Image
from scipy.ndimage import gaussian_filter, gaussian_filter1d, shift

from pssr2_monai.calibration.calibrate import calibrate, summary
from pssr2_monai.calibration.fitted_preset import Calibration
from pssr2_monai.cli.main import main
from pssr2_monai.errors import InputError
from pssr2_monai.training.config import config_files

SIDE, COUNT = 128, 10


def _scene(seed: int, side: int = 2 * SIDE) -> np.ndarray:
    """Structure of several sizes, grey levels 30 to 210."""
    rough = np.random.default_rng(seed).normal(size=(side, side))
    smooth = sum(gaussian_filter(rough, sigma) * sigma for sigma in (3, 8, 20))
    return np.asarray(120 + 90 * smooth / np.abs(smooth).max())


def _write(
    folder: Path,
    poisson: float = 0.0,
    gaussian: float = 0.0,
    line: float = 0.0,
    gain: float = 1.0,
    offset: float = 0.0,
    count: int = COUNT,
    moved: tuple[float, float] = (0.0, 0.0),
) -> Path:
    """Pairs of scale 2 with known noise, drawn by numpy."""
    for name in ("HR", "LR"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng, hr = np.random.default_rng(100 + number), np.round(_scene(number))
        lr_scene = shift(hr, moved, order=3, mode="mirror")
        signal = gain * np.asarray(Image.fromarray(lr_scene.astype(np.float32)).resize((SIDE, SIDE), 2), float)
        noisy = signal + poisson * (rng.poisson(signal.clip(0)) - signal) + rng.normal(0, gaussian, signal.shape)
        noisy += offset + rng.normal(0, line, (SIDE, 1))
        Image.fromarray(hr.astype(np.uint8)).save(folder / "HR" / f"cell_{number}.png")
        Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8)).save(folder / "LR" / f"cell_{number}.png")
    return folder


def _found(folder: Path, model: str, **options: object) -> Calibration:
    return calibrate(folder / "LR", folder / "out.json", hr=folder / "HR", model=model, **options)  # type: ignore[arg-type]


def _correlated(side: int, along: float, across: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(side, side))
    for axis, width in ((0, across), (1, along)):
        noise = gaussian_filter1d(noise, width, axis, mode="wrap")
    return np.asarray(noise / noise.std())


@pytest.mark.parametrize(("model", "poisson"), [("correlated", 0.0), ("poisson+correlated", 0.9)])
def test_correlated_noise_is_chosen_and_found(model: str, poisson: float, tmp_path: Path) -> None:
    folder = _write(tmp_path, poisson=poisson)
    for number, path in enumerate(sorted((folder / "LR").iterdir())):
        noise = 8 * _correlated(SIDE, 1.2, 0.7, number)
        Image.fromarray((np.asarray(Image.open(path)) + noise).round().clip(0, 255).astype(np.uint8)).save(path)
    found = calibrate(folder / "LR", folder / "out.json", hr=folder / "HR", register="none")
    assert "+".join(found.model) == model
    truth = {"correlated": 8.0, "correlated along": 1.2, "correlated across": 0.7} | (
        {"poisson": poisson} if poisson else {}
    )
    for key, value in truth.items():
        assert found.values[key] == pytest.approx(value, rel=0.1)
    assert found.deviation is not None
    assert not found.deviation.poor
    assert not any("correlates" in note or "poor" in note for note in found.notes)
    assert "correlated along" in summary(found)
    config_files("train", str(found.files[0]))


def test_a_poor_fit_is_called_so(tmp_path: Path) -> None:
    folder = _write(tmp_path, count=4)
    for number, path in enumerate(sorted((folder / "LR").iterdir())):
        noise = 8 * _correlated(SIDE, 2.0, 0.6, number)
        Image.fromarray((np.asarray(Image.open(path)) + noise).round().clip(0, 255).astype(np.uint8)).save(path)
    found = _found(folder, "gaussian", calls=12)
    assert found.deviation is not None
    assert found.deviation.poor
    assert any("the fit is poor" in note and "pixels correlate" in note for note in found.notes)
    assert any("take correlated" in note for note in found.notes)
    assert json.loads(found.files[1].read_text(encoding="utf-8"))["fit"]["poor"] is True


def test_scans_are_calibrated_to_good_images_of_other_fields(tmp_path: Path) -> None:
    folder, others = _write(tmp_path / "pairs", gaussian=12.0, gain=0.7, offset=20.0), tmp_path / "good"
    others.mkdir()
    for number in range(6):
        Image.fromarray(_scene(50 + number, 3 * SIDE).round().astype(np.uint8)).save(others / f"field_{number}.png")
    found = calibrate(folder / "LR", folder / "out.json", good=others, scale=2, model="gaussian")
    assert found.values["gaussian"] == pytest.approx(12, rel=0.05)
    assert found.gain is not None
    preset = json.loads(found.files[0].read_text(encoding="utf-8"))
    assert preset["scale"] == 2
    assert preset["contrast"][0] < 0.7 < preset["contrast"][1]
    assert not any("rougher" in note for note in found.notes)
    with pytest.raises(InputError, match="give hr or good, not both"):
        calibrate(folder / "LR", folder / "out.json", good=others, hr=folder / "HR")


def test_scans_whose_noise_has_other_lines_are_drawn_one_by_one(tmp_path: Path) -> None:
    folder, (lr, good) = _write(tmp_path / "pairs", count=6), (tmp_path / name for name in ("LR", "good"))
    for number, path in enumerate(sorted((folder / "HR").iterdir())):
        grey = np.asarray(Image.open(path), float)
        grey = 110 + 85 * np.tanh((grey - grey.mean()) / grey.std() * 2)
        intensity, sigma = ((0.4, 14.0), (1.0, 0.0), (3.0, 0.0))[number % 3]
        spread = np.sqrt(intensity**2 * grey + sigma**2)
        noisy = grey + spread * np.random.default_rng(number).normal(size=grey.shape)
        for place, image in ((lr, noisy), (good, grey[::-1])):
            place.mkdir(exist_ok=True)
            Image.fromarray(image.round().clip(0, 255).astype(np.uint8)).save(place / path.name)
    found = calibrate(lr, tmp_path / "out.json", good=good, calls=12, model="poisson+gaussian")
    assert any("differs by more than its strength" in note for note in found.notes)
    drawn = {entry["_target_"].split(".")[1]: entry for entry in found.noises}
    intensities, sigmas = drawn["PoissonNoise"]["intensity"]["together"], drawn["GaussianNoise"]["sigma"]["together"]
    assert len(intensities) == len(sigmas) == 6
    # From the weakest noise to the strongest: two scans of each kind, of which the middle two alone have read noise.
    assert intensities == pytest.approx([1.0, 1.0, 0.4, 0.4, 3.0, 3.0], rel=0.2, abs=0.3)
    assert np.array(sigmas)[[2, 3]].mean() == pytest.approx(14, rel=0.2)
    assert np.array(sigmas)[[0, 1, 4, 5]].max() < 8


@pytest.mark.parametrize(
    ("model", "truth", "contrast"),
    [
        ("poisson", {"poisson": 0.7}, (1.0, 5.0)),
        ("gaussian", {"gaussian": 13.0}, (1.0, -8.0)),
        ("poisson+gaussian", {"poisson": 0.8, "gaussian": 7.0}, (0.8, 20.0)),
        ("poisson+line", {"poisson": 0.7, "line": 4.0}, (1.0, 0.0)),
    ],
)
def test_known_noise_is_found(
    model: str, truth: dict[str, float], contrast: tuple[float, float], tmp_path: Path
) -> None:
    found = _found(_write(tmp_path, **truth, gain=contrast[0], offset=contrast[1]), model, register="none")
    assert found.trials <= 40
    for name, value in truth.items():
        # Small images: four standard errors, of which there is a bound, too.
        assert found.values[name] == pytest.approx(value, abs=max(4 * found.errors[name], 0.02 * value))
        assert found.errors[name] < 0.15 * value
    assert found.gain is not None
    assert found.offset is not None
    assert found.gain[1] == pytest.approx(contrast[0], abs=0.02)
    assert found.offset[1] == pytest.approx(contrast[1], abs=2.0)
    assert found.before is not None
    assert found.after is not None
    assert found.after < 0.3 * found.before


def test_training_takes_the_preset_as_it_is(tmp_path: Path) -> None:
    found = _found(_write(tmp_path, poisson=0.8, gaussian=7.0, gain=0.8, offset=20.0), "poisson+gaussian")
    preset, report, picture = found.files
    parser = ConfigParser()
    parser.read_config(config_files("train", str(preset)))
    parser["dataset_dir"] = str(tmp_path / "HR")
    assert parser.get_parsed_content("scale") == 2
    crappify = parser.get_parsed_content("crappifier").set_random_state(seed=0)
    contrast, brightness = (np.mean(parser.get_parsed_content(name)) for name in ("contrast", "brightness"))
    assert (contrast, 255 * brightness) == (pytest.approx(0.8, abs=0.01), pytest.approx(20, abs=1))
    # The target of the training is on the scale of the LR images.
    hr = torch.from_numpy(_scene(50)[None].astype(np.float32) / 255) * contrast + brightness
    images = np.stack([crappify(hr).numpy()[0] * 255 for _ in range(20)])
    clean = np.asarray(Image.fromarray(_scene(50).astype(np.float32)).resize((SIDE, SIDE), 2))
    expected = 0.8 * clean + 20
    assert images.mean() == pytest.approx(expected.mean(), abs=1.0)
    assert (images - expected).std() == pytest.approx(np.sqrt((0.64 * 0.8 * clean + 49).mean()), rel=0.08)
    told = json.loads(report.read_text(encoding="utf-8"))
    assert told["estimates"]["poisson"]["value"] == found.values["poisson"]
    assert len(told["search"]) == found.trials
    assert told["distance"]["calibrated"] < told["distance"]["default"]
    with Image.open(picture) as drawn:
        assert drawn.width == 1500
    assert "poisson intensity" in summary(found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["HR", "LR", *sorted(each.name for each in found.files)]


def test_the_same_seed_finds_the_same(tmp_path: Path) -> None:
    folder = _write(tmp_path, poisson=0.7, count=3)
    first, second = (_found(folder, "poisson", calls=12) for _ in range(2))
    assert (first.values, first.errors) == (second.values, second.errors)


def test_ranges_reach_as_far_as_asked(tmp_path: Path) -> None:
    folder = _write(tmp_path, gaussian=10.0, count=3)
    sigma = _found(folder, "gaussian", spread=0.0).noises[0]["sigma"]
    assert sigma[0] == pytest.approx(10, rel=0.05) if isinstance(sigma, list) else sigma == pytest.approx(10, rel=0.05)
    low, high = _found(folder, "gaussian", spread=0.3).noises[0]["sigma"]
    assert (low, high) == pytest.approx((7, 13), rel=0.05)


def test_a_shift_between_the_pairs_is_not_taken_for_noise(tmp_path: Path) -> None:
    folder = _write(tmp_path, gaussian=5.0, moved=(1.4, -2.2), count=4)
    aligned, as_they_are = (_found(folder, "gaussian", register=how) for how in ("shift", "none"))
    assert aligned.values["gaussian"] == pytest.approx(5, rel=0.05)
    assert as_they_are.values["gaussian"] > 1.2 * aligned.values["gaussian"]


def test_sixteen_bits_count_in_grey_levels_of_the_range(tmp_path: Path) -> None:
    for name in ("HR", "LR"):
        (tmp_path / name).mkdir()
    units = []
    for number in range(4):
        scene = _scene(number, SIDE)
        noisy = scene + np.random.default_rng(number).normal(0, 6, scene.shape)
        # An LR file's range is that of the means of its blocks; sigma counts in a 255th of it.
        blocks = scene[: SIDE // 8 * 8, : SIDE // 8 * 8].reshape(SIDE // 8, 8, SIDE // 8, 8).mean(axis=(1, 3))
        units.append(float(np.ptp(np.percentile(blocks, [0.1, 99.9]))) / 255)
        for name, image in (("HR", scene), ("LR", noisy)):
            tifffile.imwrite(tmp_path / name / f"{number}.tif", (1000 + 10 * image).round().astype(np.uint16))
    found = calibrate(tmp_path / "LR", tmp_path / "out.json", hr=tmp_path / "HR", model="gaussian")
    assert found.values["gaussian"] == pytest.approx(float(np.mean(6 / np.array(units))), rel=0.05)
    contrast = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["contrast"]
    assert np.mean(contrast) == pytest.approx(1, abs=0.02)


def test_one_pair_works_with_a_note(tmp_path: Path) -> None:
    found = _found(_write(tmp_path, gaussian=10.0, count=1), "gaussian")
    assert found.values["gaussian"] == pytest.approx(10, rel=0.1)
    assert any("one pair only" in note for note in found.notes)


def test_what_the_model_lacks_is_told(tmp_path: Path) -> None:
    found = _found(_write(tmp_path, gaussian=5.0, line=4.0, count=4), "gaussian")
    assert any("+line" in note for note in found.notes)


def test_single_images_give_a_rougher_estimate(tmp_path: Path) -> None:
    folder = _write(tmp_path, poisson=0.7)
    found = calibrate(folder / "LR", folder / "alone.json", model="poisson")
    assert found.values["poisson"] == pytest.approx(0.7, rel=0.15)
    assert "rougher" in found.notes[0]
    preset = json.loads(found.files[0].read_text(encoding="utf-8"))
    assert list(preset) == ["crappifier#clip", "crappifier#noises"]
    config_files("train", str(found.files[0]))
    with pytest.raises(InputError, match="line cannot be measured without HR partners"):
        calibrate(folder / "LR", folder / "alone.json", model="poisson+line")


def test_saturated_images_are_told_of_with_their_share(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = _write(tmp_path, gaussian=5.0, offset=110.0, count=3)
    with caplog.at_level(logging.WARNING, logger="pssr2_monai"):
        found = _found(folder, "gaussian")
    assert any("% of the pixels of the LR images" in record.message for record in caplog.records)
    assert found.values["gaussian"] == pytest.approx(5, rel=0.1)


def test_pairs_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    folder = _write(tmp_path, gaussian=5.0, count=3)
    Image.open(folder / "LR" / "cell_0.png").save(folder / "LR" / "cell_2.png")
    with pytest.raises(InputError, match=r"cell_2.png: does not show the field of cell_2.png"):
        _found(folder, "gaussian")
    with Image.open(folder / "HR" / "cell_2.png") as hr:
        half = hr.resize((SIDE, SIDE))
    Image.fromarray(255 - np.asarray(half)).save(folder / "LR" / "cell_2.png")
    with pytest.raises(InputError, match=r"cell_2.png: is bright where"):
        _found(folder, "gaussian")


def test_sizes_and_images_that_cannot_be_are_named(tmp_path: Path) -> None:
    folder = _write(tmp_path / "odd", gaussian=5.0, count=2)
    Image.fromarray(np.zeros((100, 130), np.uint8)).save(folder / "LR" / "cell_0.png")
    with pytest.raises(
        InputError, match=r"cell_0.png: 100 x 130 pixels, of which the 256 x 256 .* not a whole multiple"
    ):
        _found(folder, "gaussian")
    with pytest.raises(InputError, match=r"cell_0.png \(100 x 130 for 256 x 256"):
        _found(folder, "gaussian", scale=2)
    constant = tmp_path / "constant"
    for name, side in (("HR", 256), ("LR", 128)):
        (constant / name).mkdir(parents=True)
        Image.fromarray(np.full((side, side), 90, np.uint8)).save(constant / name / "flat.png")
    with pytest.raises(InputError, match="HR images are constant"):
        _found(constant, "gaussian")
    clean = _write(tmp_path / "clean", count=1)
    with pytest.raises(InputError, match="hold no noise"):
        calibrate(clean / "HR", tmp_path / "out.json", hr=clean / "HR")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"model": "poison"}, "did you mean 'poisson'"),
        ({"calls": 3}, "calls: 3 is not a whole number of at least 12"),
        ({"spread": 2}, "spread: 2 is not a share from 0 to 0.5"),
        ({"downsample": "cubic"}, "downsample: 'cubic' is unknown"),
        ({"register": "shif"}, "did you mean 'shift'"),
        ({"out": "preset"}, "ends in .json"),
        ({"scale": 0}, "neither a whole number of at least 1"),
        ({"scale": [4, 1, 1]}, "plane by plane"),
        ({"intensity": "percent"}, "did you mean 'percentile'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], match: str, tmp_path: Path) -> None:
    folder = _write(tmp_path, gaussian=5.0, count=1)
    given = {"out": folder / "out.json", "hr": folder / "HR"} | options
    with pytest.raises(InputError, match=match):
        calibrate(folder / "LR", **given)  # type: ignore[arg-type]


def test_the_command_prints_what_was_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _write(tmp_path, gaussian=10.0, count=2)
    options = ["--hr", folder / "HR", "--lr", folder / "LR", "--out", folder / "scope.json", "--model", "gaussian"]
    with pytest.raises(SystemExit) as exit_:
        main(["calibrate", *map(str, options)])
    assert not exit_.value.code
    printed = capsys.readouterr().out
    assert "gaussian sigma" in printed
    assert "scope.json" in printed


@pytest.mark.slow
@pytest.mark.shared_data
def test_real_pairs_come_much_nearer(shared_data: Path, tmp_path: Path) -> None:
    pairs = shared_data / "em_pairs" / "sem_real2x" / "train"
    found = calibrate(pairs / "LR", tmp_path / "sem.json", hr=pairs / "HR")
    assert found.before is not None
    assert found.after is not None
    assert found.after < found.before / 2
    # From a single image the same noise is seen, to a third.
    alone = calibrate(pairs / "LR", tmp_path / "alone.json", model="poisson")
    assert alone.values["poisson"] == pytest.approx(found.values["poisson"], rel=0.33)
