"""MS-SSIM against pytorch-msssim, the Gaussian-weighted L1 against scipy, and what training asks of both."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_msssim
import torch
from monai.data import MetaTensor
from scipy import ndimage

from pssr2_monai.errors import InputError
from pssr2_monai.training.losses import MaskedLoss, MSSSIML1Loss, counted_pairs, ms_ssim, of_counted


def image_pair(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """A noisy and a clean image in [0, 1] with structure at every scale."""
    rng = np.random.default_rng(seed)
    blur = [0] * (len(shape) - 2) + [3, 3]
    clean = ndimage.gaussian_filter(rng.random(shape), blur)
    clean = (clean - clean.min()) / (clean.max() - clean.min())
    noisy = np.clip(clean + rng.normal(0, 0.1, shape), 0, 1)
    return torch.as_tensor(noisy, dtype=dtype), torch.as_tensor(clean, dtype=dtype)


@pytest.mark.parametrize("size", [(176, 176), (161, 177), (203, 190), (256, 333)])
@pytest.mark.parametrize("channels", [1, 3])
def test_ms_ssim_agrees_with_pytorch_msssim(size: tuple[int, int], channels: int) -> None:
    noisy, clean = image_pair(2, channels, *size)
    expected = pytorch_msssim.ms_ssim(noisy, clean, data_range=1.0, size_average=False)
    # Its window is rounded to float32, which shifts its values by 1e-5; in float64 they are no nearer.
    torch.testing.assert_close(ms_ssim(noisy, clean), expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize("data_range", [0.5, 255.0, 65535.0])
def test_ms_ssim_agrees_for_other_data_ranges(data_range: float) -> None:
    noisy, clean = image_pair(2, 1, 180, 200)
    noisy, clean = 0.7 * data_range * noisy, 0.7 * data_range * clean
    expected = pytorch_msssim.ms_ssim(noisy, clean, data_range=data_range, size_average=False)
    torch.testing.assert_close(ms_ssim(noisy, clean, data_range=data_range), expected, rtol=0, atol=3e-5)


def test_ms_ssim_agrees_with_other_windows_and_weights() -> None:
    noisy, clean = image_pair(1, 2, 120, 131)
    weights = [0.2, 0.3, 0.5]
    expected = pytorch_msssim.ms_ssim(
        noisy, clean, data_range=1.0, size_average=False, win_size=7, win_sigma=1.1, weights=weights
    )
    actual = ms_ssim(noisy, clean, kernel_size=7, sigma=1.1, weights=weights)
    torch.testing.assert_close(actual, expected, rtol=0, atol=3e-5)


def test_float32_is_accurate_on_bright_images_of_little_contrast() -> None:
    noisy, clean = image_pair(1, 1, 192, 192, dtype=torch.float64)
    noisy, clean = 0.95 + 0.02 * noisy, 0.95 + 0.02 * clean
    exact = pytorch_msssim.ms_ssim(noisy, clean, data_range=1.0, size_average=False)
    torch.testing.assert_close(ms_ssim(noisy.float(), clean.float()).double(), exact, rtol=0, atol=1e-5)


def test_gradient_agrees_with_pytorch_msssim_in_both_images() -> None:
    pair = [image.requires_grad_() for image in image_pair(2, 2, 163, 170, dtype=torch.float64)]
    actual = torch.autograd.grad(ms_ssim(*pair).sum(), pair)
    expected = torch.autograd.grad(pytorch_msssim.ms_ssim(*pair, data_range=1.0, size_average=False).sum(), pair)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-9)  # its window is rounded to float32


def scipy_ssim_terms(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Means of the contrast-structure map and of the SSIM map of one plane, from scipy's Gaussian (11 taps, valid)."""

    def blur(image: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(image, 1.5, radius=5)[5:-5, 5:-5]

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y, covariance = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2, blur(x * y) - mean_x * mean_y
    contrast = (2 * covariance + 0.03**2) / (var_x + var_y + 0.03**2)
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    return contrast.mean(), (luminance * contrast).mean()


def test_tiles_of_32_pixels_take_two_scales_with_weights_that_sum_to_one() -> None:
    noisy, clean = image_pair(1, 1, 32, 40)
    x, y = noisy[0, 0].double().numpy(), clean[0, 0].double().numpy()
    half_x, half_y = (image.reshape(16, 2, 20, 2).mean((1, 3)) for image in (x, y))
    fine, coarse = 0.0448 / (0.0448 + 0.2856), 0.2856 / (0.0448 + 0.2856)
    expected = scipy_ssim_terms(x, y)[0] ** fine * scipy_ssim_terms(half_x, half_y)[1] ** coarse
    assert ms_ssim(noisy, clean).item() == pytest.approx(expected, abs=1e-6)


def test_tiles_of_the_window_size_give_plain_ssim() -> None:
    noisy, clean = image_pair(1, 1, 11, 19)
    expected = scipy_ssim_terms(noisy[0, 0].double().numpy(), clean[0, 0].double().numpy())[1]
    assert ms_ssim(noisy, clean).item() == pytest.approx(expected, abs=1e-6)


def test_depth_counts_as_channels() -> None:
    noisy, clean = image_pair(2, 2, 3, 48, 40)
    assert torch.equal(MSSSIML1Loss()(noisy, clean), MSSSIML1Loss()(noisy.flatten(1, 2), clean.flatten(1, 2)))


@pytest.mark.parametrize(("size", "scales"), [((32, 47), 2), ((161, 170), 5)])
def test_l1_is_the_mean_of_errors_weighted_with_the_coarsest_gaussian(size: tuple[int, int], scales: int) -> None:
    noisy, clean = image_pair(2, 2, *size, dtype=torch.float64)
    noisy[..., :9, :9] += 0.5  # an error in a corner, where the border counts
    sigma = 1.5 * 2 ** (scales - 1)

    def spread(image: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(image, (0, 0, sigma, sigma), mode="constant", radius=[0, 0, *size])

    error = (noisy - clean).abs().numpy()
    expected = (spread(error) / spread(np.ones_like(error))).mean((1, 2, 3))
    actual = MSSSIML1Loss(mix=0, reduction="none")(noisy, clean)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-9)
    assert abs(expected / error.mean((1, 2, 3)) - 1).max() > 1e-3, "the weighting must show"


def test_an_even_error_costs_itself_whatever_the_data_range() -> None:
    image, _ = image_pair(1, 1, 64, 50)
    for data_range in (1.0, 255.0):
        loss = MSSSIML1Loss(mix=0, data_range=data_range)
        assert loss(data_range * (image + 0.25), data_range * image).item() == pytest.approx(0.25, abs=1e-6)


def test_mix_and_reductions() -> None:
    noisy, clean = image_pair(3, 2, 64, 64)
    parts = [MSSSIML1Loss(mix=mix, reduction="none")(noisy, clean) for mix in (0, 1)]
    torch.testing.assert_close(parts[1], 1 - ms_ssim(noisy, clean))
    each = MSSSIML1Loss(mix=0.3, reduction="none")(noisy, clean)
    torch.testing.assert_close(each, 0.7 * parts[0] + 0.3 * parts[1])
    torch.testing.assert_close(MSSSIML1Loss(mix=0.3, reduction="sum")(noisy, clean), each.sum())
    torch.testing.assert_close(MSSSIML1Loss(mix=0.3)(noisy, clean), each.mean())


def test_gradient_equals_finite_differences() -> None:
    noisy, clean = (image.requires_grad_() for image in image_pair(1, 2, 13, 11, dtype=torch.float64))
    loss = MSSSIML1Loss(kernel_size=5, sigma=1.0, reduction="none")
    assert torch.autograd.gradcheck(loss, (noisy, clean), eps=1e-6, atol=1e-6)


def unusual_pairs() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    noisy, clean = image_pair(2, 1, 96, 96)
    other = torch.rand(2, 1, 96, 96, generator=torch.Generator().manual_seed(1))
    flat = torch.full_like(clean, 0.4)
    return {
        "black": (torch.zeros_like(clean), torch.zeros_like(clean)),
        "flat": (flat, flat + 0.3),
        "flat and image": (flat, clean),
        "identical": (clean.clone(), clean),
        "anti-correlated": (1 - clean, clean),
        "unrelated": (other, clean),
        "far outside the range": (1000 + 500 * noisy, clean),
    }


@pytest.mark.parametrize("name", unusual_pairs())
@pytest.mark.parametrize("mix", [0.8, 1.0])
def test_value_and_gradient_are_finite(name: str, mix: float) -> None:
    image, target = unusual_pairs()[name]
    image.requires_grad_()
    value = MSSSIML1Loss(mix=mix)(image, target)
    value.backward()
    assert image.grad is not None
    assert torch.isfinite(value)
    assert torch.isfinite(image.grad).all()
    assert -1e-6 <= MSSSIML1Loss(mix=1)(image, target).item() <= 1


def test_equal_images_cost_nothing() -> None:
    for name in ("black", "identical"):
        assert MSSSIML1Loss()(*unusual_pairs()[name]).item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("name", ["anti-correlated", "unrelated"])
def test_l1_carries_the_start(name: str) -> None:
    image, target = unusual_pairs()[name]
    loss, image = MSSSIML1Loss(), image.requires_grad_()
    if name == "anti-correlated":
        assert torch.equal(ms_ssim(image, target), torch.zeros(2))
    (gradient,) = torch.autograd.grad(loss(image, target), image)
    assert (gradient != 0).float().mean() > 0.99
    optimizer = torch.optim.Adam([image], lr=0.03)
    for _ in range(80):
        optimizer.zero_grad()
        value = loss(image, target)
        value.backward()
        optimizer.step()
    assert value.item() < 0.05
    assert ms_ssim(image, target).min() > 0.95


def test_groups_of_planes_change_nothing() -> None:
    noisy, clean = image_pair(3, 2, 64, 50)
    noisy.requires_grad_()
    values, gradients = [], []
    for pixels in (1, 10**9):  # one plane at a time, all together
        values.append(ms_ssim(noisy, clean, cached_pixels=pixels))
        gradients += torch.autograd.grad(values[-1].sum(), noisy)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*gradients)


def test_nan_is_not_hidden() -> None:
    noisy, clean = image_pair(2, 1, 64, 64)
    noisy[0, 0, 30, 30] = torch.nan
    assert torch.isnan(ms_ssim(noisy, clean)).tolist() == [True, False]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_autocast_changes_nothing(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    noisy, clean = (image.to(device) for image in image_pair(2, 1, 96, 96))
    loss, noisy = MSSSIML1Loss(), noisy.requires_grad_()
    plain = loss(noisy, clean)
    (expected,) = torch.autograd.grad(plain, noisy)
    with torch.autocast(device, dtype=torch.bfloat16):
        cast = loss(noisy, clean)
        (actual,) = torch.autograd.grad(cast, noisy)
        coarse = loss(noisy.bfloat16(), clean)
    assert cast.dtype == coarse.dtype == torch.float32
    assert torch.equal(cast, plain)
    assert torch.equal(actual, expected)
    assert torch.equal(coarse, loss(noisy.bfloat16().float(), clean))


def test_training_works_after_inference_mode_at_the_same_size() -> None:
    noisy, clean = image_pair(1, 1, 53, 59)
    with torch.inference_mode():
        scored = MSSSIML1Loss()(noisy, clean)
    trained = MSSSIML1Loss()(noisy.clone().requires_grad_(), clean)
    trained.backward()
    assert scored.item() == trained.item()


def test_meta_tensors_and_integers_give_the_same_value() -> None:
    noisy, clean = ((255 * image).round() for image in image_pair(1, 1, 64, 64))
    loss = MSSSIML1Loss(data_range=255)
    expected = loss(noisy, clean)
    wrapped = loss(MetaTensor(noisy).requires_grad_(), MetaTensor(clean))
    wrapped.backward()
    assert type(wrapped) is torch.Tensor
    assert torch.equal(wrapped, expected)
    assert torch.equal(loss(noisy.byte(), clean.byte()), expected)


@pytest.mark.parametrize(
    ("input_shape", "target_shape", "words"),
    [
        ((1, 1, 64, 64), (1, 1, 64, 32), r"\(1, 1, 64, 64\) but target \(1, 1, 64, 32\)"),
        ((1, 1, 64, 10), (1, 1, 64, 10), "64 x 10 px are smaller than kernel_size 11"),
        ((64, 64), (64, 64), "2 axes"),
    ],
)
def test_wrong_images_are_refused(input_shape: tuple[int, ...], target_shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        MSSSIML1Loss()(torch.zeros(input_shape), torch.zeros(target_shape))


@pytest.mark.parametrize(
    "option",
    [{"mix": 1.2}, {"data_range": 0}, {"kernel_size": 10}, {"sigma": 0.0}, {"weights": ()}, {"reduction": "average"}],
)
def test_wrong_options_are_refused_by_name(option: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(option))):
        MSSSIML1Loss(**option)


@pytest.mark.parametrize("power", [1, 2])
def test_the_masked_loss_is_the_mean_over_the_pixels_with_a_target(power: int) -> None:
    noisy, clean = image_pair(2, 1, 24, 30)
    noisy.requires_grad_()
    counted = torch.rand(clean.shape, generator=torch.Generator().manual_seed(0)) < 0.1
    target = clean.masked_fill(~counted, float("nan"))
    loss = MaskedLoss(power)(noisy, target)
    (gradient,) = torch.autograd.grad(loss, noisy)
    difference = (noisy - clean).detach()[counted].numpy()
    assert loss.item() == pytest.approx(np.mean(np.abs(difference) ** power), rel=1e-5)
    slope = 2 * difference if power == 2 else np.sign(difference)
    np.testing.assert_allclose(gradient[counted], slope / counted.sum(), rtol=1e-5)
    assert not gradient[~counted].any()


def test_the_masked_loss_without_targets_is_0_with_gradient_0() -> None:
    image = torch.rand(1, 1, 8, 8, requires_grad=True)
    loss = MaskedLoss()(image, torch.full((1, 1, 8, 8), float("nan")))
    (gradient,) = torch.autograd.grad(loss, image)
    assert loss.item() == 0
    assert not gradient.any()


def test_the_masked_loss_refuses_other_powers_and_shapes() -> None:
    with pytest.raises(InputError, match="power: 3"):
        MaskedLoss(3)
    with pytest.raises(InputError, match="give equal shapes"):
        MaskedLoss()(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 9))


@pytest.mark.parametrize("loss", [MSSSIML1Loss(0.8), MSSSIML1Loss(0.0), torch.nn.L1Loss()])
def test_pixels_without_a_target_have_no_gradient(loss: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    image, target = torch.rand(2, 2, 1, 48, 48, generator=generator)
    image.requires_grad_()
    target[:, :, :20] = torch.nan
    value = of_counted(loss)(image, target)
    value.backward()
    assert torch.isfinite(value)
    assert not image.grad[:, :, :20].any()
    assert image.grad[:, :, 20:].any()
    if isinstance(loss, torch.nn.L1Loss):
        torch.testing.assert_close(value, loss(image[:, :, 20:], target[:, :, 20:]))
    assert float(of_counted(loss)(image, torch.full_like(target, torch.nan))) == pytest.approx(0, abs=1e-4)


def test_a_masked_loss_counts_by_itself_and_pairs_are_those_of_pixels_with_a_target() -> None:
    loss = MaskedLoss()
    assert of_counted(loss) is loss
    label = torch.tensor([[[1.0, torch.nan], [3.0, 4.0]]])
    output = [{"pred": torch.zeros(1, 2, 2), "label": label}]
    (prediction,), (row,) = counted_pairs()(output)
    assert row.tolist() == [[1, 3, 4]]
    assert prediction.shape == row.shape
    assert counted_pairs(filled=True)(output)[1][0].tolist() == [[[1, 0], [3, 4]]]
