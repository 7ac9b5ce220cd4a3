"""The page: stands alone, shows the right images, holds the figures, and takes odd names."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from pssr2_monai.evaluation.evaluate import evaluate
from pssr2_monai.evaluation.report import page


class _Reader(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def evaluated(
    hr_folder: Path, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict, dict[str, Path], Path]:
    """The figures of an evaluation as ``metrics.json`` holds them, its pictures and its folder."""
    out = tmp_path_factory.mktemp("scores")
    evaluate(hr_folder, tiny_weights, out)
    result = json.loads((out / "metrics.json").read_text())
    return result, {f"{path.stem}.png": path for path in (out / "pictures").iterdir()}, out


def test_the_page_stands_alone_and_is_whole(evaluated: tuple[dict, dict[str, Path], Path]) -> None:
    result, pictures, out = evaluated
    text = (out / "report.html").read_text(encoding="utf-8")
    assert text == page(result, pictures)
    read = _Reader(text)
    assert not read.open
    assert {tag for tag, _ in read.tags}.isdisjoint({"script", "link", "iframe", "a", "form"})
    sources = [attributes["src"] for tag, attributes in read.tags if tag == "img"]
    assert len(sources) == 3 + 4 + 1  # pictures, box plots, Fourier ring correlation
    assert all(source is not None and source.startswith("data:image/png;base64,") for source in sources)
    assert "url(" not in text
    assert "http" not in text.replace("http-equiv", "")


def test_the_page_holds_the_figures(evaluated: tuple[dict, dict[str, Path], Path]) -> None:
    result, pictures, _ = evaluated
    words = " ".join(_Reader(page(result, pictures)).words)
    assert result["verdict"]["headline"] in words
    for caution in result["verdict"]["cautions"]:
        assert caution in words
    for method in ("bilinear", "bicubic", "model"):
        assert f"{result['mean'][method]['psnr']:.2f}" in words
        assert f"{result['mean'][method]['ms_ssim']:.4f}" in words
    low, high = result["against"]["bicubic"]["ssim"]["interval"]
    assert f"{low:.4f} to {high:.4f}".replace("-", "−") in words
    assert "pssr2_monai.networks.ResUNet" in words
    assert "pixel size unknown" in words


def test_worst_middle_and_best_image_are_shown(evaluated: tuple[dict, dict[str, Path], Path], tmp_path: Path) -> None:
    result, _, _ = evaluated
    result = json.loads(json.dumps(result))
    gains = {"cell_0.png": 0.5, "cell_1.png": -1.0, "cell_2.png": 0.1, "cell_3.png": 2.0, "cell_4.png": 0.2}
    files = {}
    for number, image in enumerate(result["images"]):
        image["model"]["psnr_fitted"] = image["bicubic"]["psnr_fitted"] + gains[image["name"]]
        files[image["name"]] = tmp_path / image["name"]
        Image.new("L", (5, 5), 40 * number).save(files[image["name"]])
    text = page(result, files)
    places = [text.index(base64.b64encode(files[f"cell_{n}.png"].read_bytes()).decode()) for n in (1, 4, 3)]
    assert places == sorted(places)
    assert base64.b64encode(files["cell_0.png"].read_bytes()).decode() not in text
    assert "Worst image: cell_1.png, −1.00 dB against bicubic" in text
    assert "4 of 5 images" in text


def test_odd_names_and_missing_figures(evaluated: tuple[dict, dict[str, Path], Path]) -> None:
    result, pictures, _ = evaluated
    result = json.loads(json.dumps(result).replace("cell_2.png", "<b>&'.png"))
    for image in result["images"]:
        image["model"] = dict.fromkeys(image["model"])
        image["pixel_size_nm"] = 4.0
    result["mean"]["model"] = dict.fromkeys(result["mean"]["model"])
    result["frc"]["correlation"] = {}
    text = page(result, pictures)
    assert "<b>&'" not in text
    assert "&lt;b&gt;&amp;&#x27;.png" in text
    assert "No image has a score." in text
    assert not _Reader(text).open


def test_resolutions_are_in_nanometres_where_the_pixel_size_is_known(
    evaluated: tuple[dict, dict[str, Path], Path],
) -> None:
    result, pictures, _ = evaluated
    result = json.loads(json.dumps(result))
    for image in result["images"]:
        image["pixel_size_nm"] = 4.0
    expected = f"{4 * result['mean']['model']['frc_resolution']:.3g} nm"
    assert expected in page(result, pictures)
    result["images"][0]["pixel_size_nm"] = 5.0
    assert " nm<" not in page(result, pictures)
