"""The losses: MS-SSIM mixed with a Gaussian-weighted L1, MS-SSIM itself, and the error of pixels with a target.

The usual form of MS-SSIM takes ten convolutions a scale, on images of one channel. Four things make it fast:

- with ``s = x + y`` and ``d = x - y``, four filtered maps a scale hold what five maps of x and y hold;
- each map is filtered along Y, then along X, as a weighted sum of shifted copies; this measured faster than banded
  matrix products and than convolutions, and stays float32 whatever precision those are set to;
- on a processor the planes are computed in groups that fit its cache;
- the Gaussian weighting of the L1 is one product with a fixed map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import avg_pool2d, conv1d
from torch.nn.modules.loss import _Loss

from pssr2_monai.errors import InputError

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first (Wang et al. 2003, section 3.2)
# Pixels that each thread of a processor takes through all scales at once: a plane of 512 x 512. Its maps stay in the
# cache, which measured 1.3 to 1.5 times faster than four such planes together; smaller planes are grouped.
CACHED_PIXELS = 2**18


def ms_ssim(
    input: Tensor,
    target: Tensor,
    data_range: float = 1.0,
    kernel_size: int = 11,
    sigma: float = 1.5,
    weights: Sequence[float] = WEIGHTS,
    cached_pixels: int = CACHED_PIXELS,
) -> Tensor:
    """Multi-scale structural similarity of each image of a batch: 1 for equal images, never below 0.

    Each scale halves the image by 2x2 averaging. Scales whose smaller side falls below ``kernel_size`` are left out and
    the remaining weights are scaled to sum to 1, so that 32 px still give two scales; five need 161 px. A scale with a
    mean contrast term of 0 or less makes the value 0, with gradient 0. Differentiable in both images.

    Args:
        input: ``(B, C, Y, X)`` or ``(B, C, Z, Y, X)``; every plane is scored by itself, and the planes averaged.
        target: the image to compare with, of the same shape.
        data_range: white level minus black level.
        kernel_size: side of the Gaussian window in pixels, odd; no window reaches over the border.
        sigma: standard deviation of that window in pixels.
        weights: exponent of each scale, finest first.
        cached_pixels: pixels that each thread of a processor computes at once.

    Returns:
        ``(B,)``, float64 where ``input`` is, else float32, also under autocast.

    Raises:
        InputError: the shapes differ, or a side is smaller than ``kernel_size``.

    Source:
        Wang, Simoncelli and Bovik 2003, "Multiscale structural similarity for image quality assessment", equation 7.

    Example:
        >>> image = torch.rand(2, 1, 64, 64)
        >>> ms_ssim(image, image)
        tensor([1., 1.])
    """
    _check_options(data_range, kernel_size, sigma, weights)
    x, y = _planes(input, target, kernel_size)
    at_once = max(1, cached_pixels * torch.get_num_threads() // x[0].numel()) if x.device.type == "cpu" else len(x)
    with torch.autocast(x.device.type, enabled=False):
        parts = zip(x.split(at_once), y.split(at_once), strict=True)
        values = [_plane_ms_ssim(x, y, data_range, kernel_size, sigma, weights) for x, y in parts]
    return torch.cat(values).view(input.shape[0], -1).mean(1)


def _plane_ms_ssim(
    x: Tensor, y: Tensor, data_range: float, kernel_size: int, sigma: float, weights: Sequence[float]
) -> Tensor:
    """Return the MS-SSIM of each plane of ``(planes, Y, X)``."""
    scales = _scales_that_fit(x, kernel_size, len(weights))
    taps = _gaussian_taps(kernel_size, sigma)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    s, d = x + y, x - y
    terms = []
    for scale in range(scales):
        (mean_s, mean_d), (var_s, var_d) = _LocalStatistics.apply(s, d, taps)
        contrast = var_d / (var_s + var_d).add_(2 * c2)  # half the difference of contrast and structure from 1
        if scale < scales - 1:
            terms.append(1 - 2 * contrast.mean((-2, -1)))
            s, d = _halve(s), _halve(d)
        else:
            square_s, square_d = mean_s * mean_s, mean_d * mean_d
            luminance = square_d / (square_s + square_d + 2 * c1)
            terms.append(((1 - 2 * luminance) * (1 - 2 * contrast)).mean((-2, -1)))
    exponents = x.new_tensor(weights[:scales])
    return _power_product(torch.stack(terms), exponents / exponents.sum())


class MSSSIML1Loss(_Loss):
    """``mix * (1 - MS-SSIM) + (1 - mix) * L1``, the L1 in units of ``data_range`` and weighted with a Gaussian.

    The L1 of a plane is the mean, over every pixel p, of ``|input - target|`` averaged around p with the Gaussian of
    the coarsest scale in use: ``sigma * 2**(scales - 1)`` full-size pixels, 24 at five scales. At the border a Gaussian
    counts only what lies inside the image and still sums to 1, so that an even error e costs ``e / data_range``. That
    double mean equals one product with a fixed map of weights, which is how it is computed.

    The L1 carries the start of training: MS-SSIM has no gradient while the images are unrelated.

    Args:
        mix: share of MS-SSIM, from 0 (L1 alone) to 1 (MS-SSIM alone).
        data_range, kernel_size, sigma, weights: those of :func:`ms_ssim`.
        reduction: ``"mean"`` or ``"sum"`` over the batch, or ``"none"`` for one value an image.

    Raises:
        InputError: an option is out of its range; in the call, as :func:`ms_ssim`.

    Source:
        Zhao, Gallo, Frosio and Kautz 2017, "Loss functions for image restoration with neural networks"
        (their loss "Mix", section III-D); MS-SSIM: see :func:`ms_ssim`.

    Example:
        >>> image = torch.rand(2, 1, 64, 64)
        >>> MSSSIML1Loss()(image, image)
        tensor(0.)
    """

    def __init__(
        self,
        mix: float = 0.8,
        data_range: float = 1.0,
        kernel_size: int = 11,
        sigma: float = 1.5,
        weights: Sequence[float] = WEIGHTS,
        reduction: str = "mean",
    ) -> None:
        if not 0 <= mix <= 1:
            raise InputError(f"mix: {mix} is not a share; give a number from 0 (L1 alone) to 1 (MS-SSIM alone)")
        if reduction not in ("mean", "sum", "none"):
            raise InputError(f"reduction: '{reduction}' is unknown; give 'mean', 'sum' or 'none'")
        _check_options(data_range, kernel_size, sigma, weights)
        super().__init__(reduction=str(reduction))
        self.mix = float(mix)
        self.data_range = float(data_range)
        self.kernel_size = int(kernel_size)
        self.sigma = float(sigma)
        self.weights = tuple(float(weight) for weight in weights)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of ``input`` (B, C, Y, X) or (B, C, Z, Y, X) against ``target``, of the same shape."""
        values = []
        if self.mix > 0:
            similarity = ms_ssim(input, target, self.data_range, self.kernel_size, self.sigma, self.weights)
            values.append(self.mix * (1 - similarity))
        if self.mix < 1:
            values.append((1 - self.mix) * self._l1(input, target))
        value = values[0] if len(values) == 1 else values[0] + values[1]
        if self.reduction == "none":
            return value
        return value.sum() if self.reduction == "sum" else value.mean()

    def _l1(self, input: Tensor, target: Tensor) -> Tensor:
        x, y = _planes(input, target, self.kernel_size)
        sigma = self.sigma * 2 ** (_scales_that_fit(x, self.kernel_size, len(self.weights)) - 1)
        with torch.autocast(x.device.type, enabled=False):
            weighted = (x - y).abs() * _pixel_weights(x.shape[-2], x.shape[-1], sigma, x.device, x.dtype)
            return weighted.view(input.shape[0], -1, *x.shape[-2:]).sum((-2, -1)).mean(1) / self.data_range


class MaskedLoss(_Loss):
    """The mean error of the pixels that have a target; those whose target is NaN do not count.

    For blind spots, which are compared at the hidden pixels alone.

    Args:
        power: 2 for the squared error, whose least value is at the mean of what the noise makes likely; 1 for the
            absolute one, at the median, which is darker where noise is skewed, as that of few photons is.

    Raises:
        InputError: another power.

    Example:
        >>> MaskedLoss()(torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, float("nan")]]))
        tensor(4.)
    """

    def __init__(self, power: int = 2) -> None:
        if power not in (1, 2):
            raise InputError(f"power: {power} is not 1 (absolute error) or 2 (squared error)")
        super().__init__()
        self.power = power

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of ``input`` against ``target``, of the same shape; 0 where no pixel has a target."""
        if input.shape != target.shape:
            raise InputError(f"loss: input is {tuple(input.shape)} but target {tuple(target.shape)}; give equal shapes")
        counted, x = target.isfinite(), input.float()
        # A NaN that is multiplied by 0 afterwards would still spoil the gradient.
        error = (x - target.where(counted, x)).abs()
        return (error if self.power == 1 else error.square()).sum() / counted.sum().clamp(min=1)


class CountedLoss(_Loss):
    """Any loss, of the pixels that have a target alone; those whose target is NaN get no gradient.

    They are given the value of the input, so that a loss of windows, such as MS-SSIM, finds equal pixels there; what is
    lost by that is made up for by dividing by the share of the pixels that count.

    Args:
        loss: a mean over pixels, of input and target.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of ``input`` against ``target``, of the same shape; 0 where no pixel has a target."""
        counted, constant = target.isfinite(), input.detach()
        share = counted.float().mean().clamp(min=1 / counted.numel())
        return self.loss(input.where(counted, constant), target.where(counted, constant.to(target.dtype))) / share


def of_counted(loss: Any) -> Any:
    """Return a loss of the pixels that have a target: ``MaskedLoss`` as it is, any other as a ``CountedLoss``."""
    return loss if isinstance(loss, MaskedLoss) else CountedLoss(loss)


def counted_pairs(filled: bool = False) -> Callable[[Sequence[Any]], tuple[list[Tensor], list[Tensor]]]:
    """Return a function from the output of a MONAI evaluator to predictions and labels of the pixels with a target.

    They are the rows ``(1, pixels)`` of these alone; or, filled, images whose other pixels have the predicted value.
    """

    def pairs(output: Sequence[Any]) -> tuple[list[Tensor], list[Tensor]]:
        predictions, labels = [], []
        for item in output:
            prediction, label = item["pred"].float(), item["label"]
            counted = label.isfinite()
            predictions.append(prediction if filled else prediction[counted][None])
            labels.append(label.where(counted, prediction) if filled else label[counted][None])
        return predictions, labels

    return pairs


class _LocalStatistics(torch.autograd.Function):
    """Means and variances of two stacks of planes under a Gaussian window: ``(mean s, mean d), (var s, var d)``.

    A function of its own so that the eleven shifted sums along each axis are one step of the graph, not forty.
    """

    @staticmethod
    def forward(ctx: Any, s: Tensor, d: Tensor, taps: tuple[float, ...]) -> tuple[Tensor, Tensor]:
        maps = s.new_empty(4, *s.shape)
        maps[0], maps[1] = s, d
        torch.mul(maps[:2], maps[:2], out=maps[2:])
        statistics = _filter(maps, taps)
        mean, variance = statistics[:2], statistics[2:]
        # Rounding leaves a flat window a little below 0, by more than the constants of SSIM where values are large.
        variance.addcmul_(mean, mean, value=-1).clamp_(min=0)
        ctx.save_for_backward(s, d, mean)
        ctx.taps = taps
        ctx.set_materialize_grads(False)
        return mean, variance

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, to_mean: Tensor | None, to_variance: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, None]:
        if to_variance is None:  # every value uses the variances: nothing asks for a gradient
            return None, None, None
        s, d, mean = ctx.saved_tensors
        maps = s.new_empty(4, *to_variance.shape[1:])
        torch.mul(mean, to_variance, out=maps[:2]).mul_(-2)
        if to_mean is not None:  # the mean counts at the coarsest scale only
            maps[:2] += to_mean
        maps[2:] = to_variance
        to_s, to_d, to_square_s, to_square_d = _filter_adjoint(maps, ctx.taps)
        return to_s.addcmul_(to_square_s, s, value=2), to_d.addcmul_(to_square_d, d, value=2), None


def _filter(maps: Tensor, taps: tuple[float, ...]) -> Tensor:
    """``(..., Y, X)`` filtered along both axes where the window lies inside: ``(..., Y - n + 1, X - n + 1)``."""
    for axis in (-2, -1):
        length = maps.shape[axis] - len(taps) + 1
        total = maps.narrow(axis, 0, length) * taps[0]
        for start, tap in enumerate(taps[1:], start=1):
            total.add_(maps.narrow(axis, start, length), alpha=tap)
        maps = total
    return maps


def _filter_adjoint(gradient: Tensor, taps: tuple[float, ...]) -> Tensor:
    """Return the gradient of :func:`_filter` with respect to its maps: each value spread over its window."""
    for axis in (-1, -2):
        length = gradient.shape[axis]
        shape = list(gradient.shape)
        shape[axis] += len(taps) - 1
        total = gradient.new_zeros(shape)
        for start, tap in enumerate(taps):
            total.narrow(axis, start, length).add_(gradient, alpha=tap)
        gradient = total
    return gradient


def _halve(planes: Tensor) -> Tensor:
    """2x2 means; an odd side is first padded with a row of zeros, as pytorch-msssim does."""
    return avg_pool2d(planes, kernel_size=2, padding=[side % 2 for side in planes.shape[-2:]])


def _power_product(terms: Tensor, exponents: Tensor) -> Tensor:
    """``max(terms, 0) ** exponents`` multiplied over the scales, for ``terms`` (scales, planes); gradient 0 at 0."""
    dead = terms <= 0
    powers = terms.masked_fill(dead, 1) ** exponents[:, None]  # the slope of x ** w at 0 is infinite
    return powers.masked_fill(dead, 0).prod(0)


def _planes(input: Tensor, target: Tensor, kernel_size: int) -> tuple[Tensor, Tensor]:
    """Return both images as plain float tensors ``(planes, Y, X)``."""
    if input.shape != target.shape:
        raise InputError(f"loss: input is {tuple(input.shape)} but target {tuple(target.shape)}; give equal shapes")
    if input.ndim not in (4, 5):
        raise InputError(f"loss: the images have {input.ndim} axes; give (B, C, Y, X) or (B, C, Z, Y, X)")
    if min(input.shape[-2:]) < kernel_size:
        sides = " x ".join(str(side) for side in input.shape[-2:])
        raise InputError(f"loss: images of {sides} px are smaller than kernel_size {kernel_size}; give larger tiles")
    dtype = torch.float64 if input.dtype == torch.float64 else torch.float32
    # As plain tensors: MetaTensor costs 30 us an operation.
    x, y = (image.as_subclass(Tensor).to(dtype).flatten(0, -3) for image in (input, target))
    return x, y


def _scales_that_fit(planes: Tensor, kernel_size: int, most: int) -> int:
    side, scales = min(planes.shape[-2:]), 1
    while scales < most and (side + 1) // 2 >= kernel_size:
        side, scales = (side + 1) // 2, scales + 1
    return scales


@lru_cache(maxsize=16)
def _gaussian_taps(kernel_size: int, sigma: float) -> tuple[float, ...]:
    offsets = torch.arange(kernel_size, dtype=torch.float64) - kernel_size // 2
    taps = torch.exp(-(offsets**2) / (2 * sigma**2))
    return tuple((taps / taps.sum()).tolist())


@lru_cache(maxsize=16)
def _pixel_weights(height: int, width: int, sigma: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the weight of each pixel of ``(height, width)`` in the mean of all Gaussian means; they sum to 1."""
    with torch.inference_mode(False):  # the map outlives this call and must serve training too
        rows, columns = (_line_weights(length, sigma) for length in (height, width))
        return torch.outer(rows, columns).to(dtype).to(device)


def _line_weights(length: int, sigma: float) -> Tensor:
    offsets = torch.arange(1 - length, length, dtype=torch.float64)
    gaussian = torch.exp(-(offsets**2) / (2 * sigma**2)).view(1, 1, -1)
    inside = conv1d(torch.ones(1, 1, length, dtype=torch.float64), gaussian, padding=length - 1)
    return conv1d(1 / inside, gaussian, padding=length - 1).flatten() / length


def _check_options(data_range: float, kernel_size: int, sigma: float, weights: Sequence[float]) -> None:
    if not data_range > 0:
        raise InputError(f"data_range: {data_range} is not above 0; give white level minus black level")
    if kernel_size < 3 or kernel_size % 2 == 0:
        raise InputError(f"kernel_size: {kernel_size} has no middle pixel; give an odd number from 3 up, such as 11")
    if not sigma > 0:
        raise InputError(f"sigma: {sigma} is not above 0; give a width in pixels, such as 1.5")
    if not weights or not all(weight > 0 for weight in weights):
        raise InputError(f"weights: {list(weights)} are not all above 0; give one number a scale, finest first")
