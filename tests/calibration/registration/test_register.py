"""Folders of pairs: what is written, what is left out, what is refused."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pssr2_monai.calibration.registration.alignment import MIN_SCORE
from pssr2_monai.calibration.registration.register import TABLE, register, summary
from pssr2_monai.cli.main import main
from pssr2_monai.data.pairs import check_pairs, sheets_of
from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import write_image

SCALE, SIDE = 2, 64
"""Of the LR images; the HR images are cut out of one field so many HR pixels aside."""
CUT = (6, -4)


def _field(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(160, 160))
    image = sum(gaussian_filter(noise, sigma) * sigma for sigma in (2, 4))
    return 128 + 100 * image / np.abs(image).max()


def _pair(seed: int, cut: tuple[int, int] = CUT) -> tuple[np.ndarray, np.ndarray]:
    """HR (8 bits) at 16 + ``cut`` of the field, and the LR image (16 bits, inverted, noisy) of the HR pixels at 16."""
    field, side = _field(seed), SIDE * SCALE
    hr = field[16 + cut[0] : 16 + cut[0] + side, 16 + cut[1] : 16 + cut[1] + side]
    lr = field[16 : 16 + side, 16 : 16 + side].reshape(SIDE, SCALE, SIDE, SCALE).mean((1, 3))
    lr = 9000 - 20 * lr + np.random.default_rng(seed).normal(0, 100, lr.shape)
    return hr.round().astype(np.uint8), lr.round().astype(np.uint16)


Folders = Callable[..., tuple[Path, Path]]


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Writes pairs into hr/ and lr/."""

    def write(hr: dict[str, np.ndarray], lr: dict[str, np.ndarray], axes: str = "YX") -> tuple[Path, Path]:
        for kind, images, size in (("hr", hr, 0.01), ("lr", lr, 0.02)):
            (tmp_path / kind).mkdir()
            for name, pixels in images.items():
                write_image(tmp_path / kind / name, pixels, axes=axes, pixel_size={"Y": size, "X": size})
        return tmp_path / "hr", tmp_path / "lr"

    return write


def _read(path: Path) -> np.ndarray:
    with open_image(path) as image:
        return image.read()


def _table(out: Path) -> list[dict[str, str]]:
    with (out / TABLE).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_pairs_are_aligned_cropped_and_listed_and_strangers_left_out(folders: Folders, tmp_path: Path) -> None:
    (hr_a, lr_a), (hr_b, _), (_, lr_c) = _pair(0), _pair(1), _pair(2)
    hr, lr = folders({"a.tif": hr_a, "b.tif": hr_b}, {"a.tif": lr_a, "b.tif": lr_c})
    out = tmp_path / "new" / "out"
    found = register(hr, lr, out)
    assert [(each.name, each.kept) for each in found] == [("a.tif", True), ("b.tif", False)]
    assert sorted(path.name for path in (out / "HR").iterdir()) == ["a.tif"]
    check_pairs(sheets_of(out / "HR", out / "LR"), SCALE)
    # The LR image begins 6 HR pixels above the HR image's first row and ends 4 right of its last column.
    window = found[0].alignment.window
    assert (window.y, window.x, window.height, window.width) == (3, 0, SIDE - 3, SIDE - 2)
    np.testing.assert_array_equal(_read(out / "LR" / "a.tif"), lr_a[3:, :-2])
    shown = _read(out / "HR" / "a.tif")
    assert shown.dtype == np.uint8
    np.testing.assert_allclose(shown, hr_a[: 2 * SIDE - 6, 4:], atol=4)
    with open_image(out / "HR" / "a.tif") as image:
        assert image.pixel_size == pytest.approx({"Y": 0.01, "X": 0.01})
    first, second = _table(out)
    assert (first["name"], first["kept"], second["kept"]) == ("a.tif", "yes", "no")
    assert float(first["shift_y"]) == pytest.approx(-CUT[0] / SCALE, abs=0.05)
    assert float(first["shift_x"]) == pytest.approx(-CUT[1] / SCALE, abs=0.05)
    assert float(first["score"]) >= MIN_SCORE > float(second["score"])
    assert float(first["correlation"]) < -0.9
    assert "left out, for their score is too low: b.tif" in summary(found)
    assert not list(out.parent.glob("*.part"))


def test_a_stack_has_one_alignment_and_keeps_its_axes(folders: Folders, tmp_path: Path) -> None:
    pairs = [_pair(seed) for seed in range(3)]
    hr_stack, lr_stack = (np.stack([pair[kind] for pair in pairs]) for kind in (0, 1))
    hr_stack[1] = 7  # nothing to go by in this frame
    hr, lr = folders({"a.ome.tif": hr_stack}, {"a.ome.tif": lr_stack}, axes="ZYX")
    found = register(hr, lr, tmp_path / "out", model="shift")
    np.testing.assert_allclose(found[0].alignment.shift, [-3, 2], atol=0.05)
    assert found[0].frames == 3
    assert found[0].disagreement < 0.1
    np.testing.assert_array_equal(_read(tmp_path / "out" / "LR" / "a.ome.tif"), lr_stack[:, 3:, :-2])
    written = _read(tmp_path / "out" / "HR" / "a.ome.tif")
    np.testing.assert_allclose(written, hr_stack[:, : 2 * SIDE - 6, 4:], atol=4)


def test_partners_of_different_names_get_one(folders: Folders, tmp_path: Path) -> None:
    hr_a, lr_a = _pair(3)
    hr, lr = folders({"x_07_slow.png": hr_a}, {"y_07_fast.tif": lr_a})
    register(hr, lr, tmp_path / "out", model="shift", pair_pattern=r"_(\d+)_")
    assert (tmp_path / "out" / "HR" / "x_07_slow.png").exists()
    assert (tmp_path / "out" / "LR" / "x_07_slow.tif").exists()


def test_no_pair_kept_is_an_error_that_leaves_the_table(folders: Folders, tmp_path: Path) -> None:
    hr, lr = folders({"a.tif": _pair(0)[0]}, {"a.tif": _pair(1)[1]})
    with pytest.raises(InputError, match=r"no pair reached the score 7 \(the best, a\.tif, has \d"):
        register(hr, lr, tmp_path / "out", model="shift")
    assert [row["kept"] for row in _table(tmp_path / "out")] == ["no"]


def test_what_cannot_be_registered_is_refused_before_any_work(folders: Folders, tmp_path: Path) -> None:
    hr_a, lr_a = _pair(0)
    hr, lr = folders({"a.tif": hr_a}, {"a.tif": lr_a})
    out = tmp_path / "out"
    with pytest.raises(InputError, match="model: 'elastic' is unknown"):
        register(hr, lr, out, model="elastic")
    with pytest.raises(InputError, match="min_score: -1 is below 0"):
        register(hr, lr, out, min_score=-1)
    with pytest.raises(InputError, match=r"a\.tif: LR 64 x 64 and HR 128 x 128 pixels do not fit the scale 4"):
        register(hr, lr, out, scale=4)
    assert not out.exists()
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files already"):
        register(hr, lr, out)
    write_image(hr / "b.tif", hr_a, axes="YX", pixel_size={})
    with pytest.raises(InputError, match=r"b\.tif in .*: have no partner"):
        register(hr, lr, tmp_path / "other")
    write_image(lr / "b.tif", lr_a[:, :45], axes="YX", pixel_size={})
    with pytest.raises(InputError, match=r"b\.tif: the sizes .* 2\.00 to 1 along Y and 2\.84 to 1 along X"):
        register(hr, lr, tmp_path / "other")
    write_image(lr / "b.tif", np.stack([lr_a, lr_a]), axes="ZYX", pixel_size={}, overwrite=True)
    with pytest.raises(InputError, match=r"b\.tif: the LR image has 2 frames, the HR image 1"):
        register(hr, lr, tmp_path / "other")
    write_image(lr / "b.tif", np.repeat(np.repeat(lr_a, 2, 0), 2, 1), axes="YX", pixel_size={}, overwrite=True)
    with pytest.raises(InputError, match=r"b\.tif: its scale is 1, that of a\.tif 2"):
        register(hr, lr, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_failure_leaves_nothing(folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (hr_a, lr_a), (hr_b, lr_b) = _pair(0), _pair(1)
    hr, lr = folders({"a.tif": hr_a, "b.tif": hr_b}, {"a.tif": lr_a, "b.tif": lr_b})
    calls = []

    def fail(*arguments: object, **options: object) -> None:
        calls.append(arguments)
        raise InputError("disk full")

    monkeypatch.setattr("pssr2_monai.calibration.registration.register.write_shared", fail)
    with pytest.raises(InputError, match="disk full"):
        register(hr, lr, tmp_path / "out", model="shift")
    assert calls
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hr", "lr"]


def test_the_command_prints_what_was_found(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hr_a, lr_a = _pair(4)
    hr, lr = folders({"007.tif": hr_a}, {"007.tif": lr_a})
    arguments = ["register", "--hr", hr, "--lr", lr, "--out", tmp_path / "out", "--model", "shift", "--scale", 2]
    with pytest.raises(SystemExit) as exit_:
        main([str(each) for each in arguments])
    assert not exit_.value.code
    printed = capsys.readouterr().out
    assert "007.tif" in printed
    assert "1 of 1 pairs written" in printed


@pytest.mark.shared_data
def test_real_pairs_of_one_field_lie_alike(shared_data: Path, tmp_path: Path) -> None:
    """Neighbouring pairs of one scan: their shifts agree, though each is found on its own."""
    folder = shared_data / "em_pairs" / "sem_real2x" / "train"
    for kind in ("HR", "LR"):
        (tmp_path / kind).mkdir()
        for path in sorted((folder / kind).glob("f11_066*.png")):
            (tmp_path / kind / path.name).write_bytes(path.read_bytes())
    found = register(tmp_path / "HR", tmp_path / "LR", tmp_path / "out")
    assert len(found) == 3
    assert all(each.kept for each in found)
    shifts = np.array([each.alignment.shift for each in found])
    assert np.ptp(shifts, axis=0).max() < 0.3
    assert abs(np.median([each.alignment.ratio for each in found]) - 1) < 0.005
