"""Blending windows: each pixel once, weights that add up to 1, the same bits whatever part is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pssr2_monai.images.windows import reflect_indices
from pssr2_monai.restoration.blending import WindowAxis, blended
from pssr2_monai.restoration.inferer import SeamlessInferer


def _outputs(image: torch.Tensor, axes: Sequence[WindowAxis], parts: Sequence[range]) -> Iterator[torch.Tensor]:
    """Windows of a restored image, twice as large as its axes, in which a network has spoilt the ends."""
    starts = [axis.covering(part.start, part.stop) for axis, part in zip(axes, parts, strict=True)]
    for corner in product(*starts):
        window = image
        for number, (axis, start) in enumerate(zip(axes, corner, strict=True)):
            index = reflect_indices(2 * start, 2 * axis.length, 2 * axis.size)
            window = window.index_select(number + 1, torch.from_numpy(index))
            if len(axis.starts) > 1:
                for end in (0, 2 * (axis.length - axis.edge)):
                    window.narrow(number + 1, end, 2 * axis.edge).fill_(1e6)
        yield window.clone()


def _blended(image: torch.Tensor, axes: Sequence[WindowAxis], parts: Sequence[range]) -> torch.Tensor:
    made = torch.full_like(image, torch.nan)
    for place, piece in blended(_outputs(image, axes, parts), axes, parts):
        into = made[(slice(None), *(slice(2 * part.start, 2 * part.stop) for part in place))]
        assert into.shape == piece.shape
        assert into.isnan().all(), "no pixel is given twice"
        into.copy_(piece)
    return made


@given(
    sizes=st.lists(st.integers(20, 260), min_size=1, max_size=2),
    overlap=st.sampled_from([None, 0.5, 0.75]),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_windows_add_up_to_the_image_and_parts_to_the_whole(
    sizes: list[int], overlap: float | None, data: st.DataObject
) -> None:
    axes = SeamlessInferer(96, overlap).axes([100, *sizes])[-len(sizes) :]
    image = torch.from_numpy(np.random.default_rng(0).random((2, *(2 * size for size in sizes)), np.float32))
    whole = _blended(image, axes, [range(size) for size in sizes])
    torch.testing.assert_close(whole, image, rtol=0, atol=1e-6)
    cuts = [data.draw(st.integers(1, size - 1)) for size in sizes]
    for parts in product(*([range(cut), range(cut, size)] for cut, size in zip(cuts, sizes, strict=True))):
        within = (slice(None), *(slice(2 * part.start, 2 * part.stop) for part in parts))
        made = _blended(image, axes, parts)
        assert torch.equal(made[within], whole[within])
        made[within] = torch.nan
        assert made.isnan().all(), "nothing is given that was not asked for"
