"""The picture of a calibration: images to compare by eye, both noise profiles, and the search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pssr2_monai.calibration.noise_profiles import NoiseProfile, sort_pixels, summarise
from pssr2_monai.images.charts import BLUE, GREY, ORANGE, Chart
from pssr2_monai.images.pictures import grey_window

if TYPE_CHECKING:
    from pssr2_monai.calibration.fit import Fit
    from pssr2_monai.calibration.flat_patches import FlatNoise
    from pssr2_monai.calibration.real_pairs import Pairs

WIDTH = 1500
GAP = 10
NOISE_SHOWN = 4
"""Standard deviations from black to white in the pictures of noise."""
SHOWN = 128
"""Side of the part of an image that is shown, LR pixels."""


def picture_of_pairs(pairs: Pairs, fit: Fit, heading: str) -> Image.Image:
    """One part of an image clean, real and crappified, with the noise of both, above charts of profiles and search."""
    number = _shown_window(pairs)
    expected = pairs.expected[number]
    place = _middle(expected)
    clean, real, fake = (image[place] for image in (expected, pairs.lr[number], fit.made[number]))
    low, high = (255 * end for end in grey_window(np.stack([clean, real, fake]) / 255))
    spread = NOISE_SHOWN * fit.trials.real.spread
    shown = {
        "HR, downsampled": (clean, low, high),
        "real LR": (real, low, high),
        "crappified HR": (fake, low, high),
        "real noise": (real - clean, -spread, spread),
        "crappified noise": (fake - clean, -spread, spread),
    }
    charts = [_histogram(fit), _spread_chart(fit), _search_chart(fit)]
    return _composed(heading, _row_of_images(shown), charts)


def picture_of_flat_patches(image: np.ndarray, found: FlatNoise, heading: str) -> Image.Image:
    """An LR image and the spread of its noise by brightness, with the line that was fitted."""
    part = image[_middle(image)]
    low, high = (255 * end for end in grey_window(part / 255))
    chart = Chart(
        "Noise of flat patches by brightness",
        "brightness (grey level)",
        "standard deviation",
        (WIDTH * 2 // 3 - 2 * GAP, 500),
    )
    chart.y_range, chart.x_range = (0.0, float(found.spread.max()) * 1.25), _wider(found.brightness)
    chart.legend_left = True
    chart.dots(found.brightness, found.spread, name="flat patches")
    x = np.linspace(found.brightness.min(), found.brightness.max(), 100)
    variance = (
        found.values.get("poisson", 0.0) ** 2 * np.maximum(x - found.black, 0) + found.values.get("gaussian", 0.0) ** 2
    )
    chart.line(x, np.sqrt(np.maximum(variance, 0)), BLUE, 3, "calibrated")
    return _composed(heading, _row_of_images({"real LR": (part, low, high)}, 3), [chart])


def picture_of_noise(clean: np.ndarray, lr: np.ndarray, name: str) -> Image.Image:
    """What noise LR images have: a tile clean, noisy, and the noise, above charts of its profile.

    Args:
        clean: downsampled HR images ``(images, Y, X)``, grey levels of 0..255.
        lr: the LR images of the same places.
        name: of the LR images.
    """
    noise = lr - clean
    scene = sort_pixels(clean, np.ones(clean.shape, dtype=bool), flat_only=False)
    profile = summarise(scene, noise)
    number = int(np.argsort(clean.std(axis=(1, 2)))[len(clean) * 3 // 4])
    low, high = (255 * end for end in grey_window(np.stack([clean[number], lr[number]]) / 255))
    reach = max(1.0, NOISE_SHOWN * profile.spread)
    shown = {
        "HR, downsampled": (clean[number], low, high),
        name: (lr[number], low, high),
        f"noise, ±{reach:.0f} grey levels": (noise[number], -reach, reach),
    }
    size = ((WIDTH - 3 * GAP) // 2, 340)
    histogram = Chart("How often each noise value occurs", "noise (grey levels)", "per grey level", size)
    histogram.x_range = (-reach, reach)
    histogram.area(*_density(profile), GREY)
    spread = Chart("How strong it is at each brightness", "brightness (grey level)", "standard deviation", size)
    spread.y_range = (0.0, max(1.0, 1.2 * float(profile.bin_spread.max())))
    spread.x_range = _wider(scene.brightness)
    spread.line(scene.brightness, profile.bin_spread, BLUE, 3)
    spread.dots(scene.brightness, profile.bin_spread)
    heading = (
        f"{name}: noise of {profile.spread:.3g} grey levels (standard deviation) in {len(clean)} tiles; "
        f"its mean {float(noise.mean()):+.2g}"
    )
    return _composed(heading, _row_of_images(shown, len(shown)), [histogram, spread])


def _histogram(fit: Fit) -> Chart:
    real, fitted, default = fit.trials.real, fit.fitted, fit.default
    shown = 4.5 * real.spread
    chart = Chart("How often each noise value occurs", "noise (grey levels)", "per grey level")
    chart.x_range = (-shown, shown)
    tops = []
    for profile, kind, name in ((real, "area", "real"), (default, "thin", "default"), (fitted, "line", "calibrated")):
        centre, density = _density(profile)
        tops.append(float(density.max()))
        if kind == "area":
            chart.area(centre, density, GREY, name)
        else:
            chart.line(centre, density, *((BLUE, 3) if kind == "line" else (ORANGE, 2)), name)
    chart.y_range = (0.0, 1.15 * min(max(tops), 2.5 * tops[0]))
    return chart


def _density(profile: NoiseProfile) -> tuple[np.ndarray, np.ndarray]:
    """Share of the pixels a grey level, at the middles of bins of about an eighth of a standard deviation."""
    edges, cumulative = profile.edges[::4], profile.cumulative[::4]
    return (edges[1:] + edges[:-1]) / 2, np.diff(cumulative) / np.diff(edges)


def _spread_chart(fit: Fit) -> Chart:
    scene, real = fit.trials.scene, fit.trials.real
    chart = Chart("How strong it is at each brightness", "brightness (grey level)", "standard deviation")
    chart.y_range = (0.0, 1.5 * float(max(real.bin_spread.max(), fit.fitted.bin_spread.max())))
    chart.x_range = _wider(scene.brightness)
    chart.legend_left = True
    chart.line(scene.brightness, fit.default.bin_spread, ORANGE, 2, "default")
    chart.line(scene.brightness, fit.fitted.bin_spread, BLUE, 3, "calibrated")
    chart.dots(scene.brightness, real.bin_spread, name="real")
    return chart


def _wider(brightness: np.ndarray) -> tuple[float, float]:
    margin = 0.04 * float(np.ptp(brightness)) + 0.5
    return float(brightness.min()) - margin, float(brightness.max()) + margin


def _search_chart(fit: Fit) -> Chart:
    distances = fit.found.distances
    trials = np.arange(1, len(distances) + 1)
    chart = Chart("The search", "trial", "distance between profiles")
    chart.x_range, chart.y_range = (0.0, len(distances) + 1.0), (0.0, 1.4 * float(distances.max()))
    chart.line(trials, np.minimum.accumulate(distances), BLUE, 2, "least so far")
    explored = fit.found.explored
    chart.dots(trials[:explored], distances[:explored], name="searching")
    if explored < len(trials):
        chart.dots(trials[explored:], distances[explored:], GREY, name="around the best")
    return chart


def _shown_window(pairs: Pairs) -> int:
    """The window with the most structure that is not cut off."""
    structure = np.array([clean.std() * use.mean() for clean, use in zip(pairs.clean, pairs.good, strict=True)])
    return int(np.argsort(structure)[len(structure) * 3 // 4])


def _middle(image: np.ndarray) -> tuple[slice, slice]:
    starts = [max(0, (length - SHOWN) // 2) for length in image.shape]
    return slice(starts[0], starts[0] + SHOWN), slice(starts[1], starts[1] + SHOWN)


def _row_of_images(images: Mapping[str, tuple[np.ndarray, float, float]], places: int = 5) -> Image.Image:
    """Images in equal places side by side, each with its name above and its own grey window."""
    side = (WIDTH - GAP * (places + 1)) // places
    picture = Image.new("RGB", (WIDTH if len(images) == places else side + 2 * GAP, side + 30), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=16)
    for number, (name, (image, low, high)) in enumerate(images.items()):
        grey = (np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255).round().astype(np.uint8)
        factor = side / max(image.shape)
        size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
        left = GAP + number * (side + GAP)
        picture.paste(Image.fromarray(grey).resize(size, Image.Resampling.NEAREST), (left, 28))
        draw.text((left, 6), name, fill="black", font=font)
    return picture


def _composed(heading: str, images: Image.Image, charts: list[Chart]) -> Image.Image:
    """The heading, the images, and the charts beneath or beside them."""
    drawn = [chart.image() for chart in charts]
    beside = images.width < WIDTH
    height = max(images.height, drawn[0].height) if beside else images.height + drawn[0].height + GAP
    font = ImageFont.load_default(size=18)
    lines = heading.splitlines()
    top = 14 + 24 * len(lines)
    picture = Image.new("RGB", (WIDTH, top + height + GAP), "white")
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((GAP, 8 + 24 * number), line, fill="black", font=font)
    picture.paste(images, (0, top))
    left, under = (images.width, top) if beside else (GAP, top + images.height + GAP)
    for chart in drawn:
        picture.paste(chart, (left, under))
        left += chart.width + GAP
    return picture
