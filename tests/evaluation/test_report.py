"""The page stands alone, shows the right images and figures, and escapes all text; its charts and pictures."""

from __future__ import annotations

import base64
import csv
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pssr2_monai.evaluation.evaluate import _write, evaluate
from pssr2_monai.evaluation.report import BOX_METRICS, box_plots, comparison_picture, error_colours, page
from pssr2_monai.images.pictures import to_image

METHODS = ("bilinear", "bicubic", "filter", "model")


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
    evaluate(hr_folder, tiny_weights, out, metrics="all")
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
    for method in METHODS:
        assert f"{result['mean'][method]['psnr']:.2f}" in words
        assert f"{result['mean'][method]['ms_ssim']:.4f}" in words
        assert f"{result['mean'][method]['fsim']:.4f}" in words
    for method in METHODS[:-1]:
        low, high = result["against"][method]["ssim"]["interval"]
        assert f"{low:.4f} to {high:.4f}".replace("-", "−") in words
    assert "restored − filter" in words
    assert "The filter learns nothing" in words
    assert '_target_: "ResUNet"' in words
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
    assert "&lt;b&gt;&amp;&#39;.png" in text
    assert "No image has a score." in text
    assert not _Reader(text).open


@pytest.mark.trust
def test_names_of_images_are_no_formulas_in_the_table(
    evaluated: tuple[dict, dict[str, Path], Path], tmp_path: Path
) -> None:
    result, pictures, _ = evaluated
    _write(json.loads(json.dumps(result).replace("cell_2.png", "=1+1.png")), pictures, tmp_path)
    with (tmp_path / "metrics.csv").open(newline="", encoding="utf-8") as file:
        names = {row["image"] for row in csv.DictReader(file)}
    assert "'=1+1.png" in names
    assert not [name for name in names if name.startswith("=")]


@pytest.mark.trust
def test_text_from_files_is_escaped_wherever_it_stands(evaluated: tuple[dict, dict[str, Path], Path]) -> None:
    """Names of images and weights, the title, headlines and the record may hold anything."""
    script = "<script>alert('1')</script>"
    result, pictures, _ = evaluated
    result = json.loads(json.dumps(result).replace("cell_2.png", script))
    pictures = {(script if name == "cell_2.png" else name): path for name, path in pictures.items()}
    result["images"] = [image for image in result["images"] if image["name"] == script]  # its picture is shown, too
    result["settings"] |= {"weights": f"{script}.pt", "input": script, "compared": script}
    result["verdict"] |= {"headline": script, "cautions": [script]}
    result["record"] |= {script: script, "network": {"name": script}}
    text = page(result, pictures)
    assert "<script" not in text
    read = _Reader(text)
    assert not read.open
    assert "script" not in {tag for tag, _ in read.tags}
    words = "".join(read.words)
    assert words.count(script) == 11  # title, heading, subtitle (2), headline, caution, caption, image, record (3)
    alternatives = [attributes.get("alt") or "" for tag, attributes in read.tags if tag == "img"]
    assert f"LR, bicubic, filter, restored, HR and error of {script}" in alternatives


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


def _scores(images: int) -> dict[str, Any]:
    scores = [dict.fromkeys(BOX_METRICS, 20.0 + number) for number in range(images)]
    return {"samples": [], "images": [dict.fromkeys(METHODS, image) for image in scores]}


def test_few_images_have_no_spread() -> None:
    assert box_plots(_scores(2), 300, 200) == []


def test_each_metric_has_a_box_plot_of_all_its_scores() -> None:
    plots = box_plots(_scores(5), 300, 200)
    assert [figure.axes[0].get_title() for figure in plots] == [
        "PSNR, fitted",
        "SSIM, fitted",
        "MS-SSIM",
        "FRC resolution",
    ]
    for figure in plots:
        assert to_image(figure).size == (300, 200)
        (axes,) = figure.axes
        assert [label.get_text() for label in axes.get_xticklabels()] == ["bilinear", "bicubic", "filter", "restored"]
        low, high = axes.get_ylim()
        assert 19 < low < 20
        assert 24 < high < 25
        dots = [line for line in axes.lines if line.get_marker() == "."]
        assert [line.get_ydata().tolist() for line in dots] == [[20, 21, 22, 23, 24]] * 4
        # Of 20 to 24 the quartiles are 21 and 23, the median 22; the whiskers reach the ends.
        heights = [sorted(set(line.get_ydata())) for line in axes.lines if line not in dots]
        for expected in ([21, 23], [20, 21], [23, 24], [22], [20], [24]):
            assert heights.count(expected) == 4


def test_whiskers_end_within_one_and_a_half_boxes() -> None:
    result = _scores(6)
    result["images"][5] = {method: dict.fromkeys(BOX_METRICS, 90.0) for method in METHODS}
    (axes,) = box_plots(result, 300, 200)[0].axes
    whiskers = [line.get_ydata().tolist() for line in axes.lines if line.get_marker() != "."]
    assert [23.75, 24.0] in whiskers  # the third quartile of 20 to 24 and 90, and the last score near it
    assert axes.get_ylim()[1] > 90  # though its dot is shown


def test_scores_without_a_number_are_left_out_of_box_plots() -> None:
    result = _scores(4)
    result["images"][0] = {method: dict.fromkeys(BOX_METRICS) for method in METHODS}
    plots = box_plots(result, 300, 200)
    assert len(plots) == len(BOX_METRICS)
    for figure in plots:
        dots = [line.get_ydata().tolist() for line in figure.axes[0].lines if line.get_marker() == "."]
        assert dots == [[21, 22, 23]] * 4
    for image in result["images"]:
        image["model"] = image["model"] | {"ms_ssim": float("nan")}
    assert len(box_plots(result, 300, 200)) == len(BOX_METRICS) - 1


def test_errors_are_red_above_blue_below_and_white_at_zero() -> None:
    colours = error_colours(np.array([[0.0, 0.2, -0.2, 0.05, 9.0]]), 0.2)[0]
    assert colours[0].tolist() == [255, 255, 255]
    assert colours[1].tolist() == colours[4].tolist() == [178, 24, 43]
    assert colours[2].tolist() == [33, 102, 172]
    np.testing.assert_allclose(colours[3], [255 - 77 / 4, 255 - 231 / 4, 255 - 212 / 4], atol=1)


def test_the_picture_shows_each_image_and_enlarges_the_worst_place() -> None:
    rng = np.random.default_rng(0)
    lr = rng.random((36, 36))
    hr = rng.random((72, 72))
    restored = hr.copy()
    restored[40:50, 8:20] = 1 - restored[40:50, 8:20]
    picture = np.asarray(comparison_picture({"LR": lr, "bicubic": hr, "restored": restored, "HR": hr}))
    # 72 px are shown four times as large; the zoom of 18 px sixteen times.
    assert picture.shape == (22 + 288 + 4 + 288, 5 * 292 - 4, 3)
    low, high = np.percentile(hr, [0.1, 99.9])
    grey = (np.clip((hr - low) / (high - low), 0, 1) * 255).round()
    shown = picture[22:310, 3 * 292 : 3 * 292 + 288, 0][2::4, 2::4]
    outside = np.abs(shown - grey) > 0
    assert outside.mean() < 0.06  # the frame around the place of the zoom
    rows, columns = np.nonzero(outside)
    assert rows.min() <= 40 <= 50 <= rows.max() + 1
    assert columns.min() <= 8 <= 20 <= columns.max() + 1
    top, left = int(rows.min()), int(columns.min())
    zoom = picture[314:, 3 * 292 : 3 * 292 + 288, 0][8::16, 8::16]
    np.testing.assert_array_equal(zoom, grey[top : top + 18, left : left + 18])
    error = picture[22:310, 4 * 292 :][2::4, 2::4]
    assert error[60:, 60:].min() > 215  # nearly white: gain and offset are fitted to what was changed, too
    assert error[42:48, 10:18].min() < 100


def test_the_scale_bar_has_a_round_length() -> None:
    images = dict.fromkeys(("LR", "bicubic", "restored", "HR"), np.full((288, 288), 0.5))
    with_bar, without = (
        np.asarray(comparison_picture(images, size))[22:310, 3 * 292 : 3 * 292 + 288].astype(int)
        for size in (4.0, None)
    )
    # A quarter of 288 px of 4 nm is 288 nm: the bar is 200 nm, 50 px, long and lies above the lower border.
    bar = (with_bar[278] == 255).all(axis=-1)
    assert bar.sum() == 51
    assert (np.abs(with_bar - without)[:250, 100:] == 0).all()
