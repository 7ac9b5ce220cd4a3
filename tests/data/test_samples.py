"""The demonstration where the network, or the hash, fails it."""

from __future__ import annotations

import subprocess
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pssr2_monai.cli import demonstration
from pssr2_monai.data import samples
from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.registry import list_images


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _wheel(sections: dict[str, np.ndarray]) -> bytes:
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, section in sections.items():
            tiff = BytesIO()
            tifffile.imwrite(tiff, section)
            archive.writestr(samples.SECTIONS + name, tiff.getvalue())
    return content.getvalue()


def _pip_gives(content: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if content is None:
            return subprocess.CompletedProcess(command, 1, "", "ERROR: no network")
        Path(command[command.index("--dest") + 1], "napari_pssr-0.1-py3-none-any.whl").write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("pssr2_monai.cli.demonstration.subprocess.run", run)


def test_sections_are_binned_and_one_is_kept_for_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = {f"{n:02d}.tif": np.random.default_rng(n).integers(0, 256, (83, 90), dtype=np.uint8) for n in range(3)}
    content = _wheel(sections)
    _pip_gives(content, monkeypatch)
    monkeypatch.setattr(samples, "SHA256", __import__("hashlib").sha256(content).hexdigest())
    train, test = samples.sample_images(tmp_path / "sample")
    assert (len(list_images(train)), len(list_images(test))) == (2, 1)
    with open_image(list_images(test)[0]) as image:
        means = sections["02.tif"][:80, :88].reshape(40, 2, 44, 2).mean(axis=(1, 3))
        np.testing.assert_allclose(image.read(), means, atol=0.5)
        assert image.pixel_size == pytest.approx({"Y": 0.016, "X": 0.016})
    _pip_gives(None, monkeypatch)  # what is there is used again
    assert samples.sample_images(tmp_path / "sample") == (train, test)


@pytest.mark.parametrize(("content", "why"), [(None, "no network"), (_wheel({}), "SHA-256")])
def test_without_the_sections_images_are_made_and_it_says_so(
    content: bytes | None, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _pip_gives(content, monkeypatch)
    train, test = samples.sample_images(tmp_path / "sample")
    assert why in caplog.text
    assert "images made here are used instead" in caplog.text
    assert len(list_images(train)) == 5
    with open_image(list_images(test)[0]) as image:
        assert image.read().std() > 20
        assert image.pixel_size == {}


def test_the_whole_demonstration_runs_on_made_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pip_gives(None, monkeypatch)
    told = str(demonstration.demo(tmp_path / "demo", minutes=0.1))
    assert [line.split()[0] for line in told.splitlines()[1:4]] == ["bilinear", "bicubic", "model"]
    for name in ("run/model.pt", "restored/section_00.tif", "evaluation/metrics.json", "evaluation/pictures"):
        assert (tmp_path / "demo" / name).exists()
    with pytest.raises(InputError, match="holds a demonstration already"):
        demonstration.demo(tmp_path / "demo")
