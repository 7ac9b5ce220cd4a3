"""The picture of an evaluation: LR, interpolation, restored image, HR and error next to each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pssr2_monai.evaluation.measures import gain_offset
from pssr2_monai.images.pictures import GAP, HEADER, enlarged, grey, grey_window, write_names

PICTURE_SIDE = 288
"""Side, in HR pixels, of what pictures show of an image; smaller ones are enlarged by a whole number up to it."""
ZOOM = 4
MARK = (255, 200, 0)
BLUE, RED = (33, 102, 172), (178, 24, 43)
ERROR_SHARE = 0.25
"""The error that is shown in full colour, as a share of the grey window."""


def comparison_picture(images: Mapping[str, np.ndarray], pixel_size_nm: float | None = None) -> Image.Image:
    """LR, other methods, the restored image, HR and the error side by side, and below them a zoom on the worst place.

    All in the grey window of HR. The error is that of the restored image after its best gain and offset, coloured (see
    ``error_colours``): a difference in brightness shows in the images, and would hide all else. The zoom shows the
    window where the square error is greatest; a frame marks it above.

    Args:
        images: each ``(Y, X)`` by name; the first is LR, the last HR, the last but one the restored image.
        pixel_size_nm: nanometres of an HR pixel along X, for a scale bar on HR.
    """
    *_, restored, hr = images.values()
    lr = next(iter(images.values()))
    low, high = grey_window(hr)
    error = gain_offset(restored, hr)[0] - hr
    reach = ERROR_SHARE * (high - low)
    steps = [size // own for size, own in zip(hr.shape, lr.shape, strict=True)]
    magnification = max(1, PICTURE_SIDE // max(hr.shape))
    top, left, height, width = _worst_place(error, steps)
    columns = {**images, f"error, ±{255 * reach:.0f} of 255": error}
    rows, total = [], len(columns) * (hr.shape[1] * magnification + GAP) - GAP
    for place, times in (((0, 0, *hr.shape), magnification), ((top, left, height, width), ZOOM * magnification)):
        row = Image.new("RGB", (total, place[2] * times), "white")
        for number, image in enumerate(columns.values()):
            full = enlarged(image, hr.shape)[place[0] : place[0] + place[2], place[1] : place[1] + place[3]]
            shown = error_colours(full, reach) if image is error else grey(full, low, high)
            tile = Image.fromarray(shown.repeat(times, axis=0).repeat(times, axis=1)).convert("RGB")
            if times == magnification:
                corners = [magnification * each for each in (left, top, left + width, top + height)]
                ImageDraw.Draw(tile).rectangle((*corners[:2], corners[2] - 1, corners[3] - 1), outline=MARK, width=2)
                if image is hr and pixel_size_nm:
                    _scale_bar(tile, pixel_size_nm / magnification)
            row.paste(tile, (number * (hr.shape[1] * magnification + GAP), 0))
        rows.append(row)
    picture = Image.new("RGB", (total, HEADER + GAP + sum(row.height for row in rows)), "white")
    picture.paste(rows[0], (0, HEADER))
    picture.paste(rows[1], (0, HEADER + rows[0].height + GAP))
    write_names(picture, list(columns))
    return picture


def error_colours(error: np.ndarray, reach: float) -> np.ndarray:
    """A signed error ``(Y, X)`` as RGB: white where there is none, red where too bright, blue where too dark.

    Full colour stands for ``reach`` and beyond.
    """
    share = np.clip(error / reach, -1, 1)[..., None]
    end = np.where(share > 0, np.array(RED), np.array(BLUE))
    colours: np.ndarray = (255 + np.abs(share) * (end - 255)).round().astype(np.uint8)
    return colours


def _scale_bar(picture: Image.Image, pixel_size_nm: float) -> None:
    """A bar of a round length, about a quarter of the width, in the lower left corner."""
    rough = picture.width / 4 * pixel_size_nm
    power = 10 ** math.floor(math.log10(rough))
    length = max(factor * power for factor in (1, 2, 5) if factor * power <= rough)
    told = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=13)
    left, bottom = 8, picture.height - 8
    right = left + round(length / pixel_size_nm)
    draw.rectangle((left - 1, bottom - 5, right + 1, bottom + 1), fill="black")
    draw.rectangle((left, bottom - 4, right, bottom), fill="white")
    draw.text((left, bottom - 7), told, fill="white", font=font, anchor="lb", stroke_width=2, stroke_fill="black")


def _worst_place(error: np.ndarray, steps: Sequence[int]) -> tuple[int, int, int, int]:
    """Top, left, height and width of the window, in whole LR pixels, where the error is greatest."""
    sides = [max(step, size // ZOOM // step * step) for size, step in zip(error.shape, steps, strict=True)]
    sums = np.pad(np.square(error, dtype=np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = sides
    within = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    within = within[:: steps[0], :: steps[1]]
    row, column = np.unravel_index(int(within.argmax()), within.shape)
    return int(row) * steps[0], int(column) * steps[1], height, width
