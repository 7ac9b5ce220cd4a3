"""The picture of a calibration: images to compare by eye, both noise profiles, and the search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pssr2_monai.calibration.noise_profiles import NoiseProfile, sort_pixels, summarise
from pssr2_monai.calibration.scan_profiles import FILTERS
from pssr2_monai.images.axes import central
from pssr2_monai.images.pictures import BLACK, BLUE, GREY, ORANGE, grey_window, new_figure, to_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pssr2_monai.calibration.fit import Fit
    from pssr2_monai.calibration.real_pairs import Pairs
    from pssr2_monai.calibration.scan_fit import ScanFit

WIDTH_PX = 1500
CHART_HEIGHT_PX = 340
HEADING_PX = 30  # height of the name above an image, and of a line of the heading
NOISE_RANGE = 4  # standard deviations from black, and to white, of mid-grey in the pictures of noise
SHOWN_SIDE = 128  # side of the part of an image that is shown, LR pixels
GreyImage = tuple[np.ndarray, float, float]  # an image (Y, X), and its levels shown black and white


def picture_of_pairs(pairs: Pairs, fit: Fit, heading: str) -> Image.Image:
    """Draw one part of an image clean, real and crappified, with the noise of both, above profiles and search; RGB."""
    # A window with much structure, but not the most, of which little is saturated.
    structure = pairs.clean.std(axis=(1, 2)) * pairs.good.mean(axis=(1, 2))
    number = int(np.argsort(structure)[len(structure) * 3 // 4])
    part = _middle(pairs.clean[number])
    clean, real, crappified = (images[number][part] for images in (pairs.expected, pairs.lr, fit.crappified))
    low, high = (255 * end for end in grey_window(np.stack([clean, real, crappified]) / 255))
    reach = NOISE_RANGE * fit.trials.real.spread
    images = {
        "HR, downsampled": (clean, low, high),
        "real LR": (real, low, high),
        "crappified HR": (crappified, low, high),
        "real noise": (real - clean, -reach, reach),
        "crappified noise": (crappified - clean, -reach, reach),
    }
    charts, axes = _new_charts(3)
    for draw, place in zip((draw_histogram, draw_spread, draw_search), axes, strict=True):
        draw(place, fit)
    return _draw_images(images, heading, charts)


def picture_of_scans(scan: np.ndarray, fit: ScanFit, heading: str) -> Image.Image:
    """Draw a scan ``(Y, X)`` next to a clean and a crappified image, above the spread of the noise and the search."""
    structure = fit.trials.clean.std(axis=(1, 2))
    number = int(np.argsort(structure)[len(structure) * 3 // 4])
    part = _middle(fit.trials.clean[number])
    clean, crappified, real = fit.trials.clean[number][part], fit.crappified[number][part], scan[_middle(scan)]
    low, high = (255 * end for end in grey_window(real / 255))
    images = {
        "scan": (real, low, high),
        "crappified good image": (crappified, low, high),
        "good image" if fit.contrasts is not None else "smoothed scan": (clean, low, high),
    }
    charts, (spread, search) = _new_charts(2)
    draw_spread_of_scans(spread, fit)
    draw_search(search, fit)
    return _draw_images(images, heading, charts)


def draw_spread_of_scans(axes: Axes, fit: ScanFit) -> None:
    """Draw the spread of what differs from pixel to pixel, and over four pixels, by brightness."""
    brightness, real = fit.trials.flat.bin_brightness(), fit.trials.real
    _label_spread(axes, brightness, 1.4 * float(np.nanmax(real)))
    axes.set_title("Spread in flat patches by brightness")
    for number, label, style in ((0, "from pixel to pixel", "-"), (len(FILTERS) - 1, "over four pixels", ":")):
        axes.plot(brightness, fit.fitted[number], style, color=BLUE, linewidth=2.5, label=f"calibrated, {label}")
        axes.plot(
            brightness, real[number], "o" if number == 0 else "s", color=BLACK, markersize=5, label=f"scans, {label}"
        )
    axes.legend(loc="upper left")


def picture_of_noise(clean: np.ndarray, lr: np.ndarray, name: str) -> Image.Image:
    """Draw what noise LR images ``(images, Y, X)`` have: a tile clean, noisy, and the noise, above its profile."""
    noise = lr - clean
    scene = sort_pixels(clean, np.ones(clean.shape, dtype=bool), flat_only=False)
    profile = summarise(scene, noise)
    number = int(np.argmax(clean.std(axis=(1, 2))))
    low, high = (255 * end for end in grey_window(np.stack([clean[number], lr[number]]) / 255))
    reach = NOISE_RANGE * max(profile.spread, 0.25)
    images = {
        "HR, downsampled": (clean[number], low, high),
        name: (lr[number], low, high),
        f"noise, ±{reach:.0f} grey levels": (noise[number], -reach, reach),
    }
    charts, (histogram, spread) = _new_charts(2)
    centre, density = noise_density(profile)
    _label_histogram(histogram, reach, float(density.max()))
    histogram.fill_between(centre, density, color=GREY)
    _label_spread(spread, scene.brightness, 1.2 * float(profile.bin_spread.max()))
    spread.plot(scene.brightness, profile.bin_spread, "o-", color=BLUE, linewidth=2.5, markersize=5)
    heading = (
        f"{name}: noise of {profile.spread:.3g} grey levels (standard deviation) in {len(clean)} tiles; "
        f"its mean {float(noise.mean()):+.2g}"
    )
    return _draw_images(images, heading, charts)


def _new_charts(columns: int) -> tuple[Figure, list[Axes]]:
    figure, axes = new_figure(WIDTH_PX, CHART_HEIGHT_PX, columns)
    figure.set_layout_engine("constrained", wspace=0.05)
    return figure, axes


def draw_histogram(axes: Axes, fit: Fit) -> None:
    real = fit.trials.real
    (centre, density), default, fitted = (noise_density(profile) for profile in (real, fit.default, fit.fitted))
    top = max(float(heights.max()) for heights in (density, default[1], fitted[1]))
    _label_histogram(axes, 4.5 * real.spread, min(top, 2.5 * float(density.max())))
    axes.fill_between(centre, density, color=GREY, label="real")
    axes.plot(*default, color=ORANGE, linewidth=1.5, label="default")
    axes.plot(*fitted, color=BLUE, linewidth=2.5, label="calibrated")
    axes.legend(loc="upper right")


def _label_histogram(axes: Axes, reach: float, top: float) -> None:
    axes.set(title="How often each noise value occurs", xlabel="noise (grey levels)")
    axes.set(ylabel="share of pixels per grey level", xlim=(-reach, reach), ylim=(0, 1.15 * top))


def noise_density(profile: NoiseProfile) -> tuple[np.ndarray, np.ndarray]:
    """Return the middles of bins of noise values, and the share of pixels per grey level in each."""
    edges, cumulative = profile.edges[::4], profile.cumulative[::4]
    return (edges[1:] + edges[:-1]) / 2, np.diff(cumulative) / np.diff(edges)


def draw_spread(axes: Axes, fit: Fit) -> None:
    brightness, real = fit.trials.scene.brightness, fit.trials.real
    _label_spread(axes, brightness, 1.5 * float(max(real.bin_spread.max(), fit.fitted.bin_spread.max())))
    axes.plot(brightness, fit.default.bin_spread, color=ORANGE, linewidth=1.5, label="default")
    axes.plot(brightness, fit.fitted.bin_spread, color=BLUE, linewidth=2.5, label="calibrated")
    axes.plot(brightness, real.bin_spread, "o", color=BLACK, markersize=5, label="real")
    axes.legend(loc="upper left")


def _label_spread(axes: Axes, brightness: np.ndarray, top: float) -> None:
    margin = 0.04 * float(np.ptp(brightness)) + 0.5
    axes.set(title="How strong the noise is at each brightness")
    axes.set(xlabel="brightness (grey level)", ylabel="standard deviation (grey levels)")
    axes.set(xlim=(brightness.min() - margin, brightness.max() + margin), ylim=(0, max(1.0, top)))


def draw_search(axes: Axes, fit: Fit | ScanFit) -> None:
    distances, explored = fit.search.distances, fit.search.explored
    trials = np.arange(1, len(distances) + 1)
    axes.set(title="The search", xlabel="trial", ylabel="distance between the noise profiles")
    axes.set(xlim=(0, len(distances) + 1), ylim=(0, 1.4 * float(distances.max())))
    axes.locator_params(axis="x", integer=True)
    axes.plot(trials, np.minimum.accumulate(distances), color=BLUE, label="least so far")
    axes.plot(trials[:explored], distances[:explored], "o", color=BLACK, markersize=5, label="searching")
    if explored < len(trials):
        axes.plot(trials[explored:], distances[explored:], "o", color=GREY, markersize=5, label="around the best")
    axes.legend(loc="upper right")


def _middle(image: np.ndarray) -> tuple[slice, ...]:
    return tuple(central(side, min(side, SHOWN_SIDE)) for side in image.shape)


def _draw_images(images: Mapping[str, GreyImage], heading: str, charts: Figure) -> Image.Image:
    """Images side by side, each with its name above and in its own grey window, under the heading, above charts."""
    side = WIDTH_PX // max(len(images), 4)
    height = side + HEADING_PX * (1 + len(heading.splitlines()))
    figure, axes = new_figure(WIDTH_PX, height, len(images))
    figure.suptitle(heading, x=0.01, horizontalalignment="left", fontsize=11)
    for place, (name, image) in zip(axes, images.items(), strict=True):
        _show(place, name, image)
    return Image.fromarray(np.concatenate([to_image(figure), to_image(charts)]))


def _show(axes: Axes, name: str, image: GreyImage) -> None:
    pixels, low, high = image
    axes.imshow(pixels, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest")
    axes.set_title(name)
    axes.axis("off")
