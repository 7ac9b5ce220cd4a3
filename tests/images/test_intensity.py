"""The intensity scale: exact for integers, never wrapping, fitted as numpy's percentiles say."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pssr2_monai.errors import InputError
from pssr2_monai.images.intensity import Intensity, IntensitySettings, dtype_limits, shrunk

DTYPES = [np.uint8, np.int8, np.uint16, np.int16]
dtypes = st.sampled_from(DTYPES)


def fit_intensity(
    sample: npt.NDArray[Any], dtype: npt.DTypeLike, mode: str | None = None, name: str = "image", **options: Any
) -> Intensity:
    return IntensitySettings(mode, **options).fit(sample, dtype, name)


def every_value(dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
    info = np.iinfo(np.dtype(dtype))
    return np.arange(info.min, info.max + 1).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_every_integer_survives_the_scale_of_its_dtype(dtype: npt.DTypeLike, byteorder: str) -> None:
    values = every_value(np.dtype(dtype).newbyteorder(byteorder))
    scale = fit_intensity(values, values.dtype, "dtype")
    scaled = scale.apply(values)
    assert scaled.dtype == np.float32
    assert (scaled.min(), scaled.max()) == (0, 1)
    back = scale.cast(scaled, values.dtype)
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back, values)


@given(dtypes, st.data())
def test_every_integer_survives_any_scale_within_its_range(dtype: type[np.integer], data: st.DataObject) -> None:
    info = np.iinfo(dtype)
    low = data.draw(st.floats(info.min, info.max - 1))
    high = data.draw(st.floats(low + 1e-3, info.max))
    values = every_value(dtype)
    scale = Intensity(low, high)
    np.testing.assert_array_equal(scale.cast(scale.apply(values), dtype), values)
    tensor = torch.from_numpy(values)
    np.testing.assert_array_equal(scale.cast(scale.apply(tensor), dtype), values)
    np.testing.assert_array_equal(np.rint(scale.undo(scale.apply(tensor)).numpy()), values)


@given(dtypes.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, max_side=12))))
def test_every_image_survives_its_own_percentiles(image: npt.NDArray[np.integer]) -> None:
    scale = fit_intensity(image, image.dtype, "percentile")
    assert scale.low < scale.high
    np.testing.assert_array_equal(scale.cast(scale.apply(image), image.dtype), image)


@given(
    hnp.arrays(np.float64, 50, elements=st.floats(allow_nan=True, allow_infinity=True)),
    st.sampled_from([*DTYPES, np.uint32, np.int32, np.uint64, np.int64]),
)
def test_cast_never_wraps_and_never_warns(values: npt.NDArray[np.float64], dtype: type[np.integer]) -> None:
    info = np.iinfo(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = Intensity(0, 1).cast(values, dtype)
    assert result.dtype == dtype
    for value, got in zip(values, result.tolist(), strict=True):
        if np.isnan(value):
            assert got == 0
        elif np.isinf(value):
            # 64-bit limits have no float of their own; the nearest one inside the range stands for them.
            assert got == pytest.approx(info.max if value > 0 else info.min, rel=1e-15)
        else:
            # Python's integers know no range, so that this cannot wrap.
            assert got == pytest.approx(min(max(round(float(value)), info.min), info.max), rel=1e-15)


def test_apply_and_undo_are_the_formula() -> None:
    image = np.array([[90, 100], [150, 300]], dtype=np.uint16)
    scale = Intensity(100, 200)
    np.testing.assert_allclose(scale.apply(image), [[-0.1, 0], [0.5, 2]], rtol=1e-6)
    np.testing.assert_allclose(scale.undo(np.array([-0.5, 0, 0.25, 3])), [50, 100, 125, 400])
    tensor = scale.apply(torch.from_numpy(image))
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor.numpy(), scale.apply(image), rtol=1e-6)
    np.testing.assert_array_equal(image, [[90, 100], [150, 300]])


def test_the_input_is_not_changed() -> None:
    image = np.array([0.25, np.nan, 9])
    kept = image.copy()
    scale = Intensity(0, 2)
    scale.cast(scale.apply(image), np.uint8)
    scale.cast(image, np.uint8)
    np.testing.assert_array_equal(image, kept)


def test_cast_rounds_half_to_even_and_clips() -> None:
    scaled = np.array([-3, 0.5, 1.5, 2.5, 254.5, 254.6, 700]) / 255
    np.testing.assert_array_equal(Intensity(0, 255).cast(scaled, np.uint8), [0, 0, 2, 2, 254, 255, 255])


def test_nan_becomes_black() -> None:
    result = Intensity(100, 4000).cast(np.array([np.nan, np.inf, -np.inf]), np.uint16)
    np.testing.assert_array_equal(result, [100, 65535, 0])


def test_cast_to_floats_keeps_values_and_nan() -> None:
    result = Intensity(-2, 6).cast(np.array([0, 0.25, 1.5, np.nan], dtype=np.float32), np.float32)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, np.array([-2, 0, 10, np.nan], dtype=np.float32))


@given(hnp.arrays(np.float32, 40, elements=st.floats(-1e6, 1e6, width=32)))
def test_float_images_come_back_to_single_precision(image: npt.NDArray[np.float32]) -> None:
    scale = fit_intensity(image, image.dtype)
    back = scale.cast(scale.apply(image), np.float32)
    reach = np.abs(image.astype(np.float64) - scale.low) + np.abs(image)
    # Half a step for each of the two roundings to float32, whose smallest step is 2**-149.
    smallest = 2.0**-149 * (1 + scale.high - scale.low)
    assert np.all(np.abs(back.astype(np.float64) - image) <= 1.01 * 2.0**-24 * reach + smallest)


def test_half_precision_does_not_overflow() -> None:
    image = np.array([-60000, 60000], dtype=np.float16)
    np.testing.assert_allclose(Intensity(-60000, 60000).apply(image), [0, 1], rtol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "expected"), [(np.uint8, (0, 255)), (np.int8, (-128, 127)), (np.dtype(">u1"), (0, 255))]
)
def test_eight_bits_span_their_dtype_unless_asked(dtype: npt.DTypeLike, expected: tuple[int, int]) -> None:
    assert fit_intensity(np.array([3, 7], dtype=dtype), dtype) == Intensity(*expected)


@pytest.mark.parametrize(("dtype", "expected"), [(np.uint16, (0, 65535)), (np.int16, (-32768, 32767))])
def test_dtype_mode(dtype: npt.DTypeLike, expected: tuple[int, int]) -> None:
    assert fit_intensity(np.array([3, 7], dtype=dtype), dtype, "dtype") == Intensity(*expected)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.float64])
def test_all_other_dtypes_span_their_percentiles(dtype: npt.DTypeLike) -> None:
    image = np.random.default_rng(0).permutation(10001).astype(dtype)
    scale = fit_intensity(image, dtype)
    # Of 0..10000, the p-th percentile is 100 p.
    assert (scale.low, scale.high) == pytest.approx((10, 9990))


def test_percentiles_pass_over_nan_and_infinity() -> None:
    clean = np.random.default_rng(1).normal(5, 2, 3000).astype(np.float32)
    dirty = np.concatenate([clean, np.full(500, np.nan), np.full(300, np.inf), np.full(200, -np.inf)])
    scale = fit_intensity(dirty.astype(np.float32), np.float32)
    assert (scale.low, scale.high) == pytest.approx(np.percentile(clean.astype(np.float64), [0.1, 99.9]))


@pytest.mark.parametrize("value", [0, 7, -3.5, 1e20])
def test_a_constant_image_divides_by_something(value: float) -> None:
    image = np.full((8, 8), value)
    scale = fit_intensity(image, np.float64)
    assert scale.low == value
    assert scale.high == (value + 1 if abs(value) < 1e6 else np.nextafter(value, np.inf))
    assert np.all(scale.apply(image) == 0)


def test_a_few_bright_spots_on_a_flat_ground_set_the_range() -> None:
    image = np.zeros(100_000, dtype=np.uint16)
    image[5] = 4000
    assert fit_intensity(image, image.dtype) == Intensity(0, 4000)


@pytest.mark.parametrize("value", [0, 65535])
def test_a_stuck_line_does_not_set_the_range(value: int) -> None:
    image = np.random.default_rng(2).normal(3000, 300, (160, 200)).astype(np.uint16)
    spoilt = image.copy()
    spoilt[:, 90], spoilt[70] = value, value
    clean, fitted = (IntensitySettings().fit(pixels, pixels.dtype) for pixels in (image, spoilt))
    assert (fitted.low, fitted.high) == pytest.approx((clean.low, clean.high), rel=0.01)


def test_camera_offset() -> None:
    image = np.arange(10001, dtype=np.uint16)
    assert fit_intensity(image, np.uint8, "dtype", offset=12) == Intensity(12, 255)
    assert fit_intensity(image, np.uint16, offset=400).low == 400
    assert fit_intensity(image, np.uint16, offset=4).low == pytest.approx(10)
    negative = image.astype(np.float32) - 5000
    assert fit_intensity(negative, np.float32).low == pytest.approx(-4990)


def test_fixed() -> None:
    assert fit_intensity(np.zeros(3), np.float32, "fixed", low=-1, high=3) == Intensity(-1.0, 3.0)
    assert fit_intensity(np.zeros(0), np.float32, "fixed", low=-1, high=3) == Intensity(-1.0, 3.0)


@pytest.mark.parametrize(
    ("dtype", "options", "words"),
    [
        (np.complex64, {}, "complex64 have no grey levels"),
        (np.bool_, {}, "bool have no grey levels"),
        (np.uint16, {"mode": "percentil"}, "did you mean 'percentile'?"),
        (np.float32, {"mode": "dtype"}, "use 'percentile', or 'fixed'"),
        (np.float32, {"mode": "fixed", "low": 3}, "needs low and high, got low=3, high=None"),
        (np.float32, {"mode": "fixed", "low": 3, "high": 3}, "high 3 must lie above low 3"),
        (np.float32, {"mode": "fixed", "low": 0, "high": np.inf}, "finite"),
        (np.float32, {"mode": "fixed", "low": 0, "high": 1, "offset": 5}, "give it as low"),
        (np.uint8, {"low": 0, "high": 100}, "need mode 'fixed', not 'dtype'"),
        (np.uint8, {"offset": 255}, "offset 255 is not below the white level 255"),
        (np.uint16, {"offset": 5000}, "offset 5000 is not below the white level"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_the_file_name(
    dtype: npt.DTypeLike, options: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError) as error:
        fit_intensity(np.arange(100), dtype, name="cell_07.tif", **options)
    assert str(error.value).startswith("cell_07.tif: ")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("sample", "words"), [(np.array([np.nan, np.inf]), "only NaN or infinite pixels"), (np.zeros(0), "no pixels")]
)
def test_samples_without_a_number_are_refused(sample: npt.NDArray[np.float64], words: str) -> None:
    with pytest.raises(InputError, match=f"cell_07.tif: holds {words}"):
        fit_intensity(sample, np.float32, name="cell_07.tif")


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (np.nan, 1), (0, np.inf), (-1.7e308, 1.7e308)])
def test_a_scale_without_a_range_is_refused(low: float, high: float) -> None:
    with pytest.raises(InputError, match="intensity: "):
        Intensity(low, high)


def test_cast_to_a_type_without_grey_levels_is_refused() -> None:
    with pytest.raises(InputError, match="complex64"):
        Intensity(0, 1).cast(np.zeros(3), np.complex64)


@pytest.mark.parametrize(
    ("mode", "dtype", "needed"),
    [(None, "uint8", False), (None, "uint16", True), ("dtype", "uint16", False), ("fixed", "float32", False)],
)
def test_a_sample_is_needed_for_percentiles_only(mode: str | None, dtype: str, needed: bool) -> None:
    assert IntensitySettings(mode).needs_sample(dtype) is needed


def test_an_unknown_scope_is_refused() -> None:
    with pytest.raises(InputError, match="scope 'tile' is unknown; use file or dataset"):
        IntensitySettings(scope="tile")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_pixels_that_are_no_numbers_become_black_or_white(dtype: npt.DTypeLike) -> None:
    image = np.array([np.nan, np.inf, -np.inf, 150], dtype)
    np.testing.assert_array_equal(Intensity(100, 200).apply(image), [0, 1, 0, 0.5])


def test_scales_are_equal_by_their_levels() -> None:
    assert Intensity(1, 2, outlier=3.0, padding=0.0) == Intensity(1, 2)
    assert len({Intensity(1, 2, outlier=3.0), Intensity(1, 2)}) == 1
    assert Intensity(1, 2) != Intensity(1, 3)


def test_eight_bits_within_sixteen_have_the_scale_of_eight() -> None:
    eight = np.random.default_rng(0).integers(20, 200, (64, 64)).astype(np.uint16)
    assert fit_intensity(eight * 257, np.uint16) == Intensity(0, 65535)
    for other in (eight * 256, eight * 257 + np.eye(64, dtype=np.uint16)):
        assert fit_intensity(other, np.uint16).high < 60000
    assert fit_intensity(eight * 257, np.uint16, "percentile").high < 60000
    assert fit_intensity(eight.astype(np.uint32) * 257, np.uint32).high < 60000
    assert fit_intensity(np.zeros((8, 8), np.uint16), np.uint16) == Intensity(0, 1)
    flat = [np.zeros((64, 64), np.uint16), eight * 257]
    assert IntensitySettings().fit(flat, np.uint16) == Intensity(0, 65535)


def test_pixels_of_one_larger_pixel_are_averaged() -> None:
    window = np.random.default_rng(0).integers(0, 60000, (7, 11)).astype(np.uint16)
    expected = [[window[2 * y : 2 * y + 2, 3 * x : 3 * x + 3].mean() for x in range(3)] for y in range(3)]
    np.testing.assert_allclose(shrunk(window, (2, 3)), expected)
    np.testing.assert_allclose(shrunk(window, (7, 11)), [[window.mean()]])
    np.testing.assert_allclose(shrunk(window, (1, 2)), window[:, :10].reshape(7, 5, 2).mean(2))
    for side, shrink in ((window, (1, 1)), (window, (8, 2)), (window, (2, 12)), (window[0], (2, 2))):
        assert shrunk(side, shrink) is side


def test_the_range_of_a_dtype_on_a_scale() -> None:
    assert Intensity(55, 155).limits(np.uint8) == (-0.55, 2.0)
    assert Intensity(0, 2).limits(np.float32) == (-np.inf, np.inf)
    assert dtype_limits("int16") == (-32768.0, 32767.0)


def test_the_scale_of_a_partner_image_has_its_grey_levels() -> None:
    partner = Intensity(100, 300).through(gain=2.0, offset=40.0)
    assert partner == Intensity(30, 130)
    np.testing.assert_allclose(partner.apply(np.array([55.0])), Intensity(100, 300).apply(np.array([2 * 55.0 + 40])))


def test_outliers_and_missing_pixels_are_replaced_before_the_scale_applies() -> None:
    image = np.random.default_rng(0).normal(1500, 20, (32, 40)).round()
    spoilt = image.copy()
    spoilt[10, 20], spoilt[20:30, 5:15] = 60000, 0
    found = Intensity(1000, 2000, outlier=300, padding=0.0).measured(spoilt)
    clean = (image - 1000) / 1000
    untouched = spoilt == image
    np.testing.assert_allclose(found[untouched], clean[untouched], atol=1e-6)
    assert np.abs(found - 0.5).max() < 0.1


def test_a_mode_is_needed_for_low_or_high_and_messages_say_what_is_there() -> None:
    for options in ({"low": 0}, {"high": 5}):
        with pytest.raises(InputError, match="low and high need mode 'fixed', not 'percentile'"):
            fit_intensity(np.arange(100), np.uint16, **options)
    with pytest.raises(InputError, match=r"^image: .*\(dtype, percentile, fixed\)$"):
        fit_intensity(np.arange(100), np.uint16, "other")
    with pytest.raises(InputError, match="holds no pixels and has"):
        fit_intensity(np.zeros(0), np.float32)
    with pytest.raises(InputError, match="holds only NaN or infinite pixels and has"):
        fit_intensity(np.full(9, np.nan), np.float32)
