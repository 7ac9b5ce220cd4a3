"""The sample images: downloaded by the address that pip finds, or generated where the network or the hash fails."""

from __future__ import annotations

import hashlib
import json
import subprocess
import zipfile
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from platformdirs.macos import MacOS
from platformdirs.windows import Windows

from pssr2_monai.data import samples
from pssr2_monai.images.files import list_images
from pssr2_monai.images.image import open_image


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pssr2_monai"


def _wheel(sections: dict[str, np.ndarray]) -> bytes:
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, section in sections.items():
            tiff = BytesIO()
            tifffile.imwrite(tiff, section)
            archive.writestr(samples.SECTIONS + name, tiff.getvalue())
    return content.getvalue()


def _index_holds(wheel: Path | None, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let pip answer with the address of a file, or fail; return the commands that it is asked."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        if wheel is None:
            return subprocess.CompletedProcess(command, 1, "", "ERROR: no network")
        report = {"install": [{"download_info": {"url": wheel.as_uri()}}]}
        Path(command[command.index("--report") + 1]).write_text(json.dumps(report), encoding="utf-8")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_windows_to_test_show_places_that_no_training_window_shows() -> None:
    places = [np.stack(np.mgrid[:4106, :2126]).astype(np.int32)] * 7
    sections = [place[0] * 10_000 + place[1] for place in places]
    training, test = samples.training_windows(sections), samples.windows_to_test(sections)
    assert {window.shape for window in training} == {(1152, 1152)}
    assert {window.shape for window in test} == {(640, 640)}
    assert max(window.max() for window in training) // 10_000 < min(window.min() for window in test) // 10_000
    corners = [divmod(int(window[0, 0]), 10_000) for window in test]
    assert corners[:6] == [(y, x) for y in (3466, 2826) for x in (103, 743, 1383)]
    assert corners[6] == corners[0]


def test_noise_is_removed_and_edges_stay() -> None:
    clean = np.full((96, 96), 90.0)
    clean[:, 48:] = 160
    noisy = (clean + np.random.default_rng(0).normal(0, samples.NOISE, clean.shape)).clip(0, 255).astype(np.uint8)
    left = samples.without_noise(noisy) - clean
    assert left.std() < 0.35 * samples.NOISE
    assert abs(left[:, 46:50]).mean() < samples.NOISE


def test_sections_are_cleaned_and_kept(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = {f"{n:02d}.tif": np.random.default_rng(n).integers(0, 256, (1300, 1930), np.uint8) for n in range(3)}
    wheel = tmp_path / "napari_pssr-0.1-py3-none-any.whl"
    wheel.write_bytes(_wheel(sections))
    commands = _index_holds(wheel, monkeypatch)
    monkeypatch.setattr(samples, "SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(samples, "without_noise", lambda plane: plane // 2)
    train, test = samples.sample_images(tmp_path / "sample")
    assert (len(list_images(train)), len(list_images(test))) == (3, 3)
    with open_image(list_images(test)[2]) as image:
        np.testing.assert_array_equal(image.read(), sections["02.tif"][660:, 1285:1925] // 2)
        assert image.pixel_size == pytest.approx({"Y": 0.008, "X": 0.008})
    with open_image(list_images(train)[1]) as image:
        np.testing.assert_array_equal(image.read(), sections["01.tif"][:1152, 389:1541] // 2)
    assert commands[0][-1] == "napari-pssr==0.1"
    assert (cache / wheel.name).read_bytes() == wheel.read_bytes()
    # Neither the images nor the wheel are downloaded again.
    assert samples.sample_images(tmp_path / "sample") == (train, test)
    samples.sample_images(tmp_path / "elsewhere")
    assert len(commands) == 1


@pytest.mark.parametrize(("content", "reason"), [(None, "no network"), (_wheel({}), "sha256 hash check")])
def test_without_the_sections_images_are_generated_with_a_warning(
    content: bytes | None,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wheel = tmp_path / "napari_pssr-0.1-py3-none-any.whl"
    wheel.write_bytes(content or b"")
    _index_holds(None if content is None else wheel, monkeypatch)
    monkeypatch.setattr(samples, "generate_images", partial(samples.generate_images, side=96))
    train, test = samples.sample_images(tmp_path / "sample")
    assert capsys.readouterr().out == ""
    assert reason in caplog.text
    assert "generated images are used instead" in caplog.text
    assert len(list_images(train)) == len(list_images(test)) == 6
    with open_image(list_images(test)[5]) as image:
        np.testing.assert_array_equal(image.read(), samples.generate_images()[-1])
        assert image.read().std() > 10
        assert image.pixel_size == {}


def test_a_wheel_of_another_hash_in_the_cache_is_replaced(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "napari_pssr-0.1-py3-none-any.whl"
    wheel.write_bytes(_wheel({f"{n}.tif": np.zeros((640, 1920), np.uint8) for n in range(2)}))
    cache.mkdir(parents=True)
    (cache / wheel.name).write_bytes(b"half of it")
    monkeypatch.setattr(samples, "SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    _index_holds(wheel, monkeypatch)
    samples.sample_images(tmp_path / "sample")
    assert (cache / wheel.name).read_bytes() == wheel.read_bytes()


def test_the_cache_folder_is_where_earlier_versions_had_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert samples.cache_dir() == tmp_path / "cache" / "pssr2_monai"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert samples.cache_dir() == Path.home() / ".cache" / "pssr2_monai"
    monkeypatch.setattr("platformdirs.PlatformDirs", MacOS)
    assert samples.cache_dir() == Path.home() / "Library" / "Caches" / "pssr2_monai"
    monkeypatch.setattr("platformdirs.PlatformDirs", Windows)
    monkeypatch.setattr("platformdirs.windows.get_win_folder", lambda name: {"CSIDL_LOCAL_APPDATA": "/local"}[name])
    assert samples.cache_dir() == Path("/local/pssr2_monai")
