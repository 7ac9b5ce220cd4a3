"""The page that shows an evaluation: one HTML file that needs nothing beside it and loads nothing."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pssr2_monai.evaluation.compare import INTERPOLATIONS, METHODS
from pssr2_monai.evaluation.fourier_ring_correlation import THRESHOLD
from pssr2_monai.evaluation.measures import METRICS
from pssr2_monai.evaluation.verdict import best_interpolation, images_in_words, rival
from pssr2_monai.images.charts import BLUE, GREY, ORANGE, Chart
from pssr2_monai.images.outputs import written_atomically

NAMES = {"bilinear": "bilinear", "bicubic": "bicubic", "model": "restored"}
COLOURS = {"bilinear": GREY, "bicubic": ORANGE, "model": BLUE}
BOXES = ("psnr_fitted", "ssim_fitted", "ms_ssim", "frc_resolution")
FEW = 3
"""Images that have a spread, at least."""


def box_charts(result: Mapping[str, Any], size: tuple[int, int]) -> list[Chart]:
    """One chart a metric of ``BOXES``, with a box a method; none of fewer than ``FEW`` images.

    Args:
        result: what ``evaluating.evaluate`` gives.
        size: width and height of each, pixels.
    """
    units = result["samples"] or result["images"]
    charts: list[Chart] = []
    for name in BOXES if len(units) >= FEW else ():
        metric = METRICS[name]
        found = {method: np.array([unit[method][name] for unit in units], dtype=float) for method in METHODS}
        values = {method: each[np.isfinite(each)] for method, each in found.items()}
        if not all(each.size for each in values.values()):
            continue
        chart = Chart(
            metric.label, "", metric.unit, size, x_range=(-0.5, len(METHODS) - 0.5), x_names=tuple(NAMES.values())
        )
        together = np.concatenate(list(values.values()))
        room = 0.08 * float(np.ptp(together)) or 0.5
        chart.y_range = (float(together.min()) - room, float(together.max()) + room)
        for place, method in enumerate(METHODS):
            chart.box(place, values[method], COLOURS[method])
        charts.append(chart)
    return charts


RANKED = "psnr_fitted"
"""Images are ranked by what the network gains over bicubic in this metric: hard and easy ones are comparable then."""
CHART = (346, 300)
LISTED = 200
"""Images that the page lists; ``metrics.csv`` has all."""
NORMALISED = {
    "least_squares": "one gain and one offset, those of the least squared error against HR, for all pixels of a sample",
    "pssr2": "PSSR2's own: HR is stretched from its 0.1 to its 99.9 percentile, the other image fitted to it, both cut "
    "to 8 bits",
}


def write_page(result: Mapping[str, Any], pictures: Mapping[str, Path], path: Path) -> None:
    """Writes the page of an evaluation; see ``page``."""
    with written_atomically(path) as part:
        part.write_text(page(result, pictures), encoding="utf-8")


def page(result: Mapping[str, Any], pictures: Mapping[str, Path]) -> str:
    """The page as HTML.

    Args:
        result: what ``metrics.json`` holds.
        pictures: by image name the file of its picture; those of the worst, the middle and the best are embedded.
    """
    verdict, settings = result["verdict"], result["settings"]
    sections = [
        f"<header><h1>Evaluation of {escape(settings['weights'])}</h1><p>{escape(_subtitle(result))}</p></header>",
        f'<section class="verdict {verdict["level"]}"><h2>{escape(verdict["headline"])}</h2>{_cards(result)}'
        f"{_list(verdict['cautions'], 'cautions')}</section>",
        f"<section><h2>Pictures</h2>{_pictures(result, pictures)}</section>",
        f"<section><h2>Figures</h2>{_table(result)}</section>",
        f"<section><h2>Spread over the images</h2>{_boxes(result)}</section>",
        f"<section><h2>Fourier ring correlation</h2>{_curves(result)}</section>",
        f"<section><h2>What was normalised</h2>{_normalised(settings)}</section>",
        f"<section><h2>Each image</h2>{_images(result)}</section>",
        f"<section><h2>Record of the weights</h2>{_record(result)}</section>",
    ]
    template = files("pssr2_monai.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    title = f"{settings['weights']}: evaluation"
    return template.replace("{{title}}", escape(title)).replace("{{body}}", "\n".join(sections))


def _subtitle(result: Mapping[str, Any]) -> str:
    settings = result["settings"]
    scale = settings["scale"]
    factor = " x ".join(map(str, scale)) if isinstance(scale, Sequence) else f"{scale}x"
    same = "; at scale 1 the interpolated images are the inputs themselves" if _denoises(result) else ""
    return f"Scale {factor}, compared on {settings['compared']}; inputs: {settings['input']}{same}"


def _cards(result: Mapping[str, Any]) -> str:
    """The few figures that a reader takes away."""
    cards = []
    for name in ("psnr_fitted", "ssim_fitted"):
        method, metric = best_interpolation(result, name), METRICS[name]
        gap = result["against"][method][name]
        spread = "" if gap["interval"] is None else f"95 %: {_signed(gap['interval'][0], metric.digits)} to "
        spread += "" if gap["interval"] is None else _signed(gap["interval"][1], metric.digits)
        value = f"{_signed(gap['mean'], metric.digits)} {metric.unit}".strip()
        label = f"{metric.label.split(',')[0]} gained, brightness fitted"
        other = "the input" if _denoises(result) else method
        cards.append((label, value, f"over {other}. {spread}"))
    own, theirs = (result["mean"][method]["frc_resolution"] for method in ("model", "bicubic"))
    known = "input" if _denoises(result) else "bicubic"
    cards.append(("Detail that agrees with HR", _period(own, result), f"{known}: {_period(theirs, result)}"))
    gains = [gain for _, gain in _ranked(result)]
    won = sum(gain > 0 for gain in gains)
    cards.append((f"Better than {known}", f"{won} of {images_in_words(len(gains))}", "by fitted PSNR"))
    return (
        '<div class="cards">'
        + "".join(
            f'<div class="card"><span>{escape(name)}</span><strong>{escape(value)}</strong><span>{escape(more)}</span>'
            "</div>"
            for name, value, more in cards
        )
        + "</div>"
    )


def _denoises(result: Mapping[str, Any]) -> bool:
    return rival(result["settings"]["scale"]) == "the input"


def _period(pixels: float | None, result: Mapping[str, Any]) -> str:
    """A resolution in nanometres where all images have one pixel size, else in pixels."""
    if pixels is None:
        return "-"
    sizes = {image["pixel_size_nm"] for image in result["images"]}
    size = next(iter(sizes))
    return f"{pixels * size:.3g} nm" if len(sizes) == 1 and size else f"{pixels:.1f} px"


def _ranked(result: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Images from the least to the greatest gain over bicubic."""
    gains = [
        (image["name"], image["model"][RANKED] - image["bicubic"][RANKED])
        for image in result["images"]
        if image["model"][RANKED] is not None and image["bicubic"][RANKED] is not None
    ]
    return sorted(gains, key=lambda each: each[1])


def _pictures(result: Mapping[str, Any], pictures: Mapping[str, Path]) -> str:
    ranked = [each for each in _ranked(result) if each[0] in pictures]
    if not ranked:
        return "<p>No image has a score.</p>"
    chosen = {0: "Worst image", len(ranked) - 1: "Best image", (len(ranked) - 1) // 2: "Middle image"}
    if len(ranked) < 3:
        chosen = dict.fromkeys(range(len(ranked)), "Image")
    shown = []
    for number in sorted(chosen):
        name, gain = ranked[number]
        encoded = _data_uri(pictures[name].read_bytes())
        caption = f"{chosen[number]}: {name}, {_signed(gain, 2)} dB against bicubic"
        shown.append(
            f"<figure><figcaption>{escape(caption)}</figcaption>"
            f'<img src="{encoded}" alt="LR, bicubic, restored, HR and error of {escape(name)}"></figure>'
        )
    return (
        "<p>All in one grey window, that of HR. The lower row enlarges the place of the greatest error, framed above. "
        "The error is that after gain and offset were fitted: red too bright, blue too dark.</p>" + "".join(shown)
    )


def _table(result: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{name}</th>" for name in NAMES.values())
    head += "".join(f"<th>restored − {name}<br><small>95 % interval</small></th><th>p</th>" for name in INTERPOLATIONS)
    rows = []
    for name, metric in METRICS.items():
        sign = 1 if metric.higher_is_better else -1
        means = {method: result["mean"][method][name] for method in METHODS}
        best = max((sign * value for value in means.values() if value is not None), default=None)
        cells = "".join(
            f'<td class="{"best" if value is not None and sign * value == best else ""}">'
            f"{_number(value, metric.digits)}<br><small>{_interval(result['interval'][method][name], metric.digits)}"
            "</small></td>"
            for method, value in means.items()
        )
        for method in INTERPOLATIONS:
            gap = result["against"][method][name]
            cells += f'<td class="{_good(gap, sign)}">{_signed(gap["mean"], metric.digits)}<br><small>'
            cells += f"{_interval(gap['interval'], metric.digits)}</small></td><td>{_p(gap['p'])}</td>"
        unit = f" ({metric.unit})" if metric.unit else ""
        arrow = "higher is better" if metric.higher_is_better else "lower is better"
        rows.append(
            f"<tr><th>{escape(metric.label + unit)}<br><small>{escape(metric.meaning)} {arrow.capitalize()}."
            f"</small></th>{cells}</tr>"
        )
    return (
        f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        "<p><small>Means over the images with 95 % bootstrap intervals (bias-corrected and accelerated, 9,999 "
        "resamples); p of Wilcoxon's signed-rank test of the paired differences, two-sided, not corrected for the "
        "number of metrics. Green: better, and the interval leaves out 0. Red: worse, "
        "likewise. Data range 1.</small></p>"
    )


def _good(gap: Mapping[str, Any], sign: int) -> str:
    if gap["interval"] is None or gap["interval"][0] * gap["interval"][1] <= 0:
        return ""
    return "good" if sign * gap["mean"] > 0 else "bad"


def _boxes(result: Mapping[str, Any]) -> str:
    charts = box_charts(result, CHART)
    if not charts:
        return f"<p>{FEW} images or more have a spread.</p>"
    return f'<div class="charts">{"".join(map(_chart, charts))}</div>'


def _curves(result: Mapping[str, Any]) -> str:
    curves = result["frc"]["correlation"]
    if not curves:
        return "<p>The images are too small for it.</p>"
    chart = Chart("Agreement with HR", "periods per HR pixel", "correlation", (620, 380), (0.0, 0.5), (-0.1, 1.05))
    frequency = result["frc"]["frequency"]
    chart.line([0, 0.5], [THRESHOLD] * 2, "#787878", 1)
    for method, curve in curves.items():
        chart.line(frequency, curve, COLOURS[method], 3, NAMES[method])
    rows = [(NAMES[method], result["mean"][method]["frc_resolution"]) for method in METHODS]
    alone = [image["single_image_resolution"] for image in result["images"]]
    for name, label in (("hr", "HR by itself"), ("lr", "LR by itself")):
        values = [each[name] for each in alone if name in each]
        if values:
            rows.append((label, float(np.mean(values))))
    listed = "".join(
        f"<tr><th>{name}</th><td>{_number(value, 2)} px</td><td>{_nanometres(value, result)}</td></tr>"
        for name, value in rows
    )
    return (
        f'<div class="charts">{_chart(chart)}<div><table class="narrow"><tbody>{listed}</tbody></table>'
        "<p><small>The grey line is 1/7; the period in HR pixels at which a curve falls below it is the resolution. Of "
        "restored and interpolated images it is the agreement with HR, whose own noise counts as disagreement; where "
        "slices were restored, in cuts along Z. Of an "
        "image by itself it is taken from its sub-sampled quarters (Koho et al. 2019), good to about a tenth; 2 px is "
        "the finest that pixels hold.</small></p></div></div>"
    )


def _nanometres(pixels: float | None, result: Mapping[str, Any]) -> str:
    told = _period(pixels, result)
    return told if told.endswith("nm") else "pixel size unknown"


def _normalised(settings: Mapping[str, Any]) -> str:
    rows = [
        "Every image was brought to [0, 1] as the record's intensity settings say. PSNR, SSIM, MS-SSIM, NRMSE and "
        "pixel error judge it so, with data range 1.",
        f"Before the fitted metrics: {NORMALISED[settings['normalise']]}.",
        "Range-invariant PSNR fits gain and offset always.",
        "Restored and interpolated images were rounded to the grey levels of the HR file's type.",
        f"Planes of more than 4096 x 4096 pixels were scored in equal blocks. Seed {settings['seed']}.",
    ]
    return _list(rows, "")


def _images(result: Mapping[str, Any]) -> str:
    shown = ("psnr", "ssim", "ms_ssim", "psnr_fitted", "ssim_fitted", "frc_resolution")
    gains = dict(_ranked(result))
    order = [*gains, *(image["name"] for image in result["images"] if image["name"] not in gains)]
    images = {image["name"]: image for image in result["images"]}
    head = "".join(f"<th>{escape(METRICS[name].label)}<br><small>bicubic, restored</small></th>" for name in shown)
    rows = []
    for name in order[:LISTED]:
        cells = "".join(
            f"<td>{_number(images[name]['bicubic'][metric], METRICS[metric].digits)}&ensp;"
            f"<b>{_number(images[name]['model'][metric], METRICS[metric].digits)}</b></td>"
            for metric in shown
        )
        rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    more = f"<p>The {LISTED} with the least gain; metrics.csv has all {len(order)}.</p>" if len(order) > LISTED else ""
    return (
        f"<details><summary>{images_in_words(len(order))}, least gain first</summary>{more}"
        f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></details>"
    )


def _record(result: Mapping[str, Any]) -> str:
    record = result["record"]
    rows = "".join(
        f"<tr><th>{escape(key.replace('_', ' '))}</th><td><code>{escape(_plain(value))}</code></td></tr>"
        for key, value in record.items()
    )
    return f'<table class="record"><tbody>{rows}</tbody></table>'


def _plain(value: Any) -> str:
    if value in (None, {}, []):
        return "none"
    if isinstance(value, dict):
        return "\n".join(f"{key}: {json.dumps(each, ensure_ascii=False)}" for key, each in value.items())
    return json.dumps(value) if isinstance(value, (list, tuple)) else str(value)


def _chart(chart: Chart) -> str:
    width, height = chart.size
    return f'<img width="{width}" height="{height}" src="{_png(chart.image(sharp=True))}" alt="{escape(chart.title)}">'


def _png(picture: Image.Image) -> str:
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    return _data_uri(content.getvalue())


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _list(items: Sequence[str], name: str) -> str:
    return f'<ul class="{name}">{"".join(f"<li>{escape(item)}</li>" for item in items)}</ul>' if items else ""


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def _interval(interval: Sequence[float] | None, digits: int) -> str:
    return "" if interval is None else " to ".join(_number(end, digits).replace("-", "−") for end in interval)


def _p(p: float | None) -> str:
    return "" if p is None else "&lt; 0.001" if p < 0.001 else f"{p:.2g}"
