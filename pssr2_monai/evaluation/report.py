"""The page that shows an evaluation, one HTML file that stands alone, and the pictures and charts on it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image, ImageDraw

from pssr2_monai.evaluation.fourier_ring_correlation import FRC_THRESHOLD
from pssr2_monai.evaluation.measures import METRICS, Metric, gain_offset
from pssr2_monai.evaluation.verdict import best_rival, images_in_words, rival
from pssr2_monai.images.pictures import (
    BLACK,
    BLUE,
    GAP_PX,
    GREY,
    HEADER_PX,
    ORANGE,
    draw_scale_bar,
    grey_window,
    new_figure,
    repeat_pixels,
    to_grey,
    to_png,
    write_names,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {"bilinear": "bilinear", "bicubic": "bicubic", "filter": "filter", "model": "restored"}
COLOURS = {"bilinear": GREY, "bicubic": ORANGE, "filter": BLACK, "model": BLUE}
NOT_SHOWN = ("bilinear",)  # in pictures and for each image
BOX_METRICS = ("psnr_fitted", "ssim_fitted", "ms_ssim", "frc_resolution")
MIN_BOX_IMAGES = 3  # fewer have no spread to show
IMAGE_METRICS = ("psnr", "ssim", "ms_ssim", "psnr_fitted", "ssim_fitted", "frc_resolution")  # listed for each image
RANKING_METRIC = "psnr_fitted"
"""Images are ranked by what the network gains over bicubic in this metric: hard and easy ones are comparable then."""
BOX_SIZE_PX, CURVES_SIZE_PX = (346, 300), (620, 380)
MAX_LISTED_IMAGES = 200  # on the page; ``metrics.csv`` has all
PICTURE_SIDE_PX = 288
"""Side, in HR pixels, of what pictures show of an image; smaller ones are enlarged by a whole number up to it."""
ZOOM = 4
"""Factor by which the window of the greatest error is enlarged, and share of the image's sides that it has."""
FRAME_COLOUR = (255, 200, 0)
TOO_DARK, TOO_BRIGHT = (33, 102, 172), (178, 24, 43)
FULL_COLOUR_ERROR = 0.25  # of the grey window, and beyond, is shown in full colour


def page(result: Mapping[str, Any], pictures: Mapping[str, Path]) -> str:
    """Render the content of ``metrics.json`` as HTML, with the pictures of the worst, the middle and the best image."""
    environment = Environment(
        loader=PackageLoader("pssr2_monai.evaluation", ""), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "number": _number,
        "signed": _signed,
        "interval": _interval,
        "resolution": partial(_resolution, images=result["images"]),
        "p_value": _p_value,
        "colour": _significance_colour,
        "plain_text": _plain_text,
        "count_images": images_in_words,
    }
    ranked = _ranked(result)
    by_name = {image["name"]: image for image in result["images"]}
    scale, names = result["settings"]["scale"], {method: NAMES[method] for method in result["mean"]}
    return environment.get_template("report.html").render(
        {name: result[name] for name in ("settings", "verdict", "mean", "record")},
        result=result,
        scale=" x ".join(map(str, scale)) if isinstance(scale, Sequence) else f"{scale}x",
        denoises=rival(scale) == "the input",
        best_rival=best_rival,
        gains=[gain for _, gain in ranked],
        pictures=_embedded_pictures([image for image in ranked if image[0] in pictures], pictures),
        names=names,
        shown={method: name for method, name in names.items() if method not in NOT_SHOWN},
        metrics={name: METRICS[name] for name in result["settings"]["metrics"]},
        box_plots=[_embedded(plot) for plot in box_plots(result, *BOX_SIZE_PX)],
        min_spread_images=MIN_BOX_IMAGES,
        curves=_embedded(correlation_plot(result)) if result["frc"]["correlation"] else None,
        resolutions=_resolutions(result),
        images=[by_name[name] for name in dict.fromkeys([*(name for name, _ in ranked), *by_name])],
        image_metrics={
            name: METRICS[name]
            for name in result["settings"]["metrics"]
            if name in IMAGE_METRICS or not METRICS[name].usual
        },
        listed=MAX_LISTED_IMAGES,
    )


def box_plots(result: Mapping[str, Any], width: int, height: int) -> list[Figure]:
    """Draw a box plot (Tukey 1977) of each of ``BOX_METRICS`` that has finite scores, of a size in pixels.

    None at all for fewer than ``MIN_BOX_IMAGES`` images.
    """
    units = result["samples"] or result["images"]
    methods = [method for method in NAMES if all(method in unit for unit in units)]
    plots = []
    for name in BOX_METRICS if len(units) >= MIN_BOX_IMAGES else ():
        scores = [np.array([unit[method][name] for unit in units], dtype=float) for method in methods]
        finite = [np.sort(values[np.isfinite(values)]) for values in scores]
        if not all(values.size for values in finite):
            continue
        figure, (axes,) = new_figure(width, height)
        for position, (method, values) in enumerate(zip(methods, finite, strict=True)):
            line = {"color": COLOURS[method], "linewidth": 1.5}
            style: Any = dict.fromkeys(("boxprops", "whiskerprops", "capprops"), line)
            style["medianprops"] = {**line, "linewidth": 3}
            axes.boxplot(values, positions=[position], widths=0.4, showfliers=False, **style)
            # Dots next to the box, in a fixed order, so that the same values give the same picture.
            axes.plot(position + 0.27 + 0.06 * (np.arange(values.size) % 3), values, ".", color=COLOURS[method])
        axes.set(title=METRICS[name].label, ylabel=METRICS[name].unit, xlim=(-0.5, len(methods) - 0.5))
        axes.set_xticks(range(len(methods)), [NAMES[method] for method in methods])
        axes.grid(visible=False, axis="x")
        plots.append(figure)
    return plots


def correlation_plot(result: Mapping[str, Any]) -> Figure:
    """Draw the mean curves of Fourier ring correlation with HR, and the threshold."""
    figure, (axes,) = new_figure(*CURVES_SIZE_PX)
    axes.axhline(FRC_THRESHOLD, color="#787878", linewidth=1)
    for method, curve in result["frc"]["correlation"].items():
        axes.plot(result["frc"]["frequency"], curve, color=COLOURS[method], linewidth=2.2, label=NAMES[method])
    axes.set(title="Agreement with HR", xlabel="periods per HR pixel", ylabel="correlation")
    axes.set(xlim=(0, 0.5), ylim=(-0.1, 1.05))
    axes.legend(frameon=False)
    return figure


def comparison_picture(images: Mapping[str, np.ndarray], pixel_size_nm: float | None = None) -> Image.Image:
    """Join LR, other methods, the restored image, HR and the error, with a zoom on the greatest error below them.

    All in the grey window of HR. The error is that of the restored image after its best gain and offset, coloured (see
    ``error_colours``): a difference in brightness shows in the images, and would hide all else. The zoom shows the
    window where the square error is greatest; a frame marks it above.

    The first of the images ``(Y, X)`` is LR, the last HR, the last but one the restored image. The pixel size is that
    of HR along X, for a scale bar.
    """
    lr, *_, restored, hr = images.values()
    low, high = grey_window(hr)
    error = gain_offset(restored, hr)[0] - hr
    full_error = FULL_COLOUR_ERROR * (high - low)
    enlarged = max(1, PICTURE_SIDE_PX // max(hr.shape))
    lr_pixel = [size // lr_size for size, lr_size in zip(hr.shape, lr.shape, strict=True)]
    top, left, height, width = _worst_window(error, lr_pixel)
    zoomed = np.s_[top : top + height, left : left + width]
    shown = {name: to_grey(repeat_pixels(image, hr.shape), low, high) for name, image in images.items()}
    shown[f"error, ±{255 * full_error:.0f} of 255"] = error_colours(error, full_error)
    step = hr.shape[1] * enlarged + GAP_PX
    below = HEADER_PX + hr.shape[0] * enlarged + GAP_PX
    picture = Image.new("RGB", (len(shown) * step - GAP_PX, below + height * ZOOM * enlarged), "white")
    for column, pixels in enumerate(shown.values()):
        tile = _magnified(pixels, enlarged)
        frame = np.multiply((left, top, left + width, top + height), enlarged) - (0, 0, 1, 1)
        ImageDraw.Draw(tile).rectangle(frame.tolist(), outline=FRAME_COLOUR, width=2)
        if column == len(images) - 1 and pixel_size_nm:
            draw_scale_bar(tile, pixel_size_nm / enlarged)
        picture.paste(tile, (column * step, HEADER_PX))
        picture.paste(_magnified(pixels[zoomed], ZOOM * enlarged), (column * step, below))
    write_names(picture, list(shown))
    return picture


def error_colours(error: np.ndarray, full_error: float) -> np.ndarray:
    """Return a signed error ``(Y, X)`` as RGB: white where there is none, red where too bright, blue where too dark."""
    share = np.clip(error / full_error, -1, 1)[..., None]
    full = np.where(share > 0, np.array(TOO_BRIGHT), np.array(TOO_DARK))
    colours: np.ndarray = (255 + np.abs(share) * (full - 255)).round().astype(np.uint8)
    return colours


def _magnified(pixels: np.ndarray, factor: int) -> Image.Image:
    return Image.fromarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1)).convert("RGB")


def _worst_window(error: np.ndarray, lr_pixel: Sequence[int]) -> tuple[int, int, int, int]:
    """Top, left, height and width of the window, in whole LR pixels, where the square error is greatest."""
    height, width = (max(step, size // ZOOM // step * step) for size, step in zip(error.shape, lr_pixel, strict=True))
    sums = np.pad(np.square(error, dtype=np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    windows = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    windows = windows[:: lr_pixel[0], :: lr_pixel[1]]
    row, column = np.unravel_index(int(windows.argmax()), windows.shape)
    return int(row) * lr_pixel[0], int(column) * lr_pixel[1], height, width


def _embedded(figure: Figure) -> dict[str, Any]:
    width, height = (round(side) for side in figure.bbox.size)
    return {"title": figure.axes[0].get_title(), "width": width, "height": height, "uri": _data_uri(to_png(figure))}


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _resolution(pixels: float | None, images: Sequence[Mapping[str, Any]]) -> str:
    """A resolution in nanometres where all images have one pixel size, else in pixels."""
    if pixels is None:
        return "-"
    sizes = {image["pixel_size_nm"] for image in images}
    size = next(iter(sizes))
    return f"{pixels * size:.3g} nm" if len(sizes) == 1 and size else f"{pixels:.1f} px"


def _ranked(result: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Names of images with their gain over bicubic, the least first."""
    gains = [
        (image["name"], image["model"][RANKING_METRIC] - image["bicubic"][RANKING_METRIC])
        for image in result["images"]
        if image["model"][RANKING_METRIC] is not None and image["bicubic"][RANKING_METRIC] is not None
    ]
    return sorted(gains, key=lambda gain: gain[1])


def _embedded_pictures(ranked: Sequence[tuple[str, float]], pictures: Mapping[str, Path]) -> list[dict[str, str]]:
    """The pictures of the worst, the middle and the best image."""
    if not ranked:
        return []
    titles = {0: "Worst image", (len(ranked) - 1) // 2: "Middle image", len(ranked) - 1: "Best image"}
    embedded = []
    for rank, title in titles.items():
        name, gain = ranked[rank]
        caption = f"{title if len(ranked) > 2 else 'Image'}: {name}, {_signed(gain, 2)} dB against bicubic"
        embedded.append({"name": name, "caption": caption, "uri": _data_uri(pictures[name].read_bytes())})
    return embedded


def _resolutions(result: Mapping[str, Any]) -> list[tuple[str, float | None]]:
    """Resolutions in pixels: of each method against HR, and of HR and LR images by themselves."""
    rows = [(NAMES[method], result["mean"][method]["frc_resolution"]) for method in result["mean"]]
    for key, method in (("single_image_resolution", ""), ("decorrelation_resolution", ", decorrelation")):
        alone = [image[key] for image in result["images"]]
        for name, label in (("hr", "HR by itself"), ("lr", "LR by itself")):
            values = [resolutions[name] for resolutions in alone if resolutions.get(name) is not None]
            if values:
                rows.append((label + method, float(np.mean(values))))
    return rows


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def _interval(interval: Sequence[float] | None, digits: int) -> str:
    return " to ".join(_number(end, digits).replace("-", "−") for end in interval or ())


def _p_value(p: float | None) -> str:
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.2g}"


def _significance_colour(gap: Mapping[str, Any], metric: Metric) -> str:
    """The style of a difference: good or bad where its interval leaves out 0."""
    if gap["interval"] is None or gap["interval"][0] * gap["interval"][1] <= 0:
        return ""
    return "good" if (gap["mean"] > 0) == metric.higher_is_better else "bad"


def _plain_text(value: Any) -> str:
    if value in (None, {}, []):
        return "none"
    if isinstance(value, dict):
        return "\n".join(f"{key}: {json.dumps(part, ensure_ascii=False)}" for key, part in value.items())
    return json.dumps(value) if isinstance(value, (list, tuple)) else str(value)
