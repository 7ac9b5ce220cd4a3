"""The demonstration wins on images of a kind that the bundled weights have not seen; its picture shows what it says."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pssr2_monai.cli.demo import comparison
from pssr2_monai.cli.verbs import COMMANDS
from pssr2_monai.data import samples
from pssr2_monai.errors import InputError
from pssr2_monai.images.pictures import GAP_PX, HEADER_PX
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks.weights import load_weights


@pytest.mark.slow
def test_the_demonstration_wins_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise OSError("no network")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(samples, "_wheel_url", fail)
    monkeypatch.setattr(samples, "generate_images", partial(samples.generate_images, side=192))
    out = tmp_path / "demo"
    answer = COMMANDS["demo"].run(out=str(out), minutes=0.1)
    assert "Better than interpolation" in answer.text
    assert answer.data["verdict"]["level"] == "better"
    gains = answer.data["against"]["bilinear"]
    assert all(gains[name]["interval"][0] > 0 for name in ("psnr", "ssim", "ms_ssim", "psnr_fitted", "ssim_fitted"))
    written = [value for value in answer.data.values() if isinstance(value, Path)]
    assert len(written) == 6
    assert all(path.exists() for path in written)
    assert len(list((out / "restored").iterdir())) == 6
    assert load_weights(out / "run" / "model.pt")[1].started_from["weights"] == "em_2x"
    with pytest.raises(InputError, match="holds a demonstration already"):
        COMMANDS["demo"].run(out=str(out))
    (out / "evaluation" / "metrics.json").unlink()
    assert COMMANDS["demo"].run(out=str(out), minutes=0.1).data["mean"] == answer.data["mean"]


def test_the_picture_shows_the_middle_of_each_image_in_one_contrast(tmp_path: Path) -> None:
    y, x = np.mgrid[:80, :60]
    truth = (40 + 2 * y + x).astype(np.uint8)
    scan = truth.reshape(40, 2, 30, 2).mean(axis=(1, 3)).round().astype(np.uint8)
    for name, image, size in (("scan", scan, 0.2), ("restored", truth // 2, 0.1), ("truth", truth, 0.1)):
        write_image(tmp_path / f"{name}.tif", image, axes="YX", pixel_size={"Y": size, "X": size})
    picture = comparison(*(tmp_path / f"{name}.tif" for name in ("scan", "restored", "truth")), side=40)
    assert picture.size == (4 * 40 + 3 * GAP_PX, HEADER_PX + 40)
    columns = np.asarray(picture)[HEADER_PX:]
    fast, bicubic, restored, slow = (columns[:20, start : start + 40] for start in range(0, 4 * 44, 44))
    low, high = np.percentile(truth[20:60, 10:50], [0.1, 99.9])
    expected = np.clip((truth[20:40, 10:50] - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(slow, expected, atol=0.51)
    np.testing.assert_allclose(bicubic.astype(float), slow, atol=6)
    np.testing.assert_array_equal(fast[:4:2, ::2], fast[1:4:2, 1::2])  # the scale bar is below
    assert restored.max() == 0, "half as bright is below the window of the truth"
