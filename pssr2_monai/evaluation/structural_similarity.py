"""The family of structural similarity: SSIM, MS-SSIM and MicroMS3IM, which first removes background and gain.

MicroMS3IM: Ashesh, Deschamps and Jug 2024, "MicroSSIM: improved structural similarity for comparing microscopy data",
arXiv:2408.08747. A microscope adds an offset and scales by its gain, both of which SSIM takes for dissimilarity. The
third percentile of each image is subtracted, and the image is multiplied by the gain with the highest SSIM before
MS-SSIM is computed on the range of the target.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import uniform_filter
from scipy.optimize import minimize_scalar
from skimage.metrics import structural_similarity

from pssr2_monai.training.losses import ms_ssim as batch_ms_ssim

MIN_SSIM_SIDE_PX = 11  # width of SSIM's Gaussian window of sigma 1.5
BACKGROUND_PERCENTILE = 3
SSIM_WINDOW_PX = 7  # of the SSIM that chooses the gain: uniform, as scikit-image's is by default
MAX_WINDOWS = 2**20  # of which that SSIM is the mean; in larger images they are spread evenly
LARGEST_RATIO = 20.0  # of the gain, either way, to that which equals the contrasts
FloatArray = npt.NDArray[np.float64]


def ssim(
    image: np.ndarray, target: np.ndarray, data_range: float = 1.0, mask: npt.NDArray[np.bool_] | None = None
) -> float:
    """Return the structural similarity with the Gaussian window of Wang et al. 2004, sigma 1.5, averaged over frames.

    With a mask, over the windows whose middle it holds. NaN where a side is below 11 pixels, or where there is none.
    """
    if min(image.shape[-2:]) < MIN_SSIM_SIDE_PX:
        return math.nan
    options = {"data_range": data_range, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pairs = zip(image, target, strict=True)
    if mask is None:
        return float(np.mean([structural_similarity(hr, sr, **options) for sr, hr in pairs]))
    inner = np.s_[MIN_SSIM_SIDE_PX // 2 : -(MIN_SSIM_SIDE_PX // 2)]
    similarities = np.stack([structural_similarity(hr, sr, full=True, **options)[1] for sr, hr in pairs])
    values = similarities[:, inner, inner][mask[:, inner, inner]]
    return float(values.mean(dtype=np.float64)) if values.size else math.nan


def ms_ssim(image: np.ndarray, target: np.ndarray, data_range: float = 1.0) -> float:
    """Return the multi-scale SSIM (Wang et al. 2003), averaged over frames; fewer scales below 161 pixels.

    NaN where a side is below 11 pixels. See ``pssr2_monai.training.losses.ms_ssim``.
    """
    if min(image.shape[-2:]) < MIN_SSIM_SIDE_PX:
        return math.nan
    with torch.inference_mode():
        sr, hr = (torch.from_numpy(np.ascontiguousarray(frames, np.float32))[:, None] for frames in (image, target))
        return float(batch_ms_ssim(sr, hr, data_range).mean())


def micro_ms3im(image: np.ndarray, target: np.ndarray, max_windows: int = MAX_WINDOWS) -> float:
    """Return the MicroMS3IM of an image ``(frames, Y, X)``, with one background and one gain for all frames.

    NaN where a side is below 11 pixels, or the target is constant.
    """
    span = float(target.max() - target.min())
    if min(image.shape[-2:]) < MIN_SSIM_SIDE_PX or not span:
        return math.nan
    above, reference = (_above_background(planes) for planes in (image, target))
    return ms_ssim(above * np.float32(best_gain(above, reference, max_windows)), reference, span)


def _above_background(planes: np.ndarray) -> npt.NDArray[np.float32]:
    return (planes - np.percentile(planes, BACKGROUND_PERCENTILE)).astype(np.float32)


def best_gain(image: np.ndarray, target: np.ndarray, max_windows: int = MAX_WINDOWS) -> float:
    """Return the gain of the image at which its SSIM with the target, on the target's range, is highest."""
    spreads = image.std(dtype=np.float64), target.std(dtype=np.float64)
    if not min(spreads):
        return 1.0
    means, target_means, variances, target_variances, covariances = _local_statistics(image, target, max_windows)
    span = float(target.max() - target.min())
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2

    def dissimilarity(log_gain: float) -> float:
        gain = math.exp(log_gain)
        luminance = (2 * gain * means * target_means + c1) / (gain**2 * means**2 + target_means**2 + c1)
        structure = (2 * gain * covariances + c2) / (gain**2 * variances + target_variances + c2)
        return -float(np.mean(luminance * structure))

    middle, reach = math.log(spreads[1] / spreads[0]), math.log(LARGEST_RATIO)
    found = minimize_scalar(dissimilarity, bounds=(middle - reach, middle + reach), options={"xatol": 1e-6})
    return math.exp(found.x)


def _local_statistics(image: np.ndarray, target: np.ndarray, most: int) -> list[FloatArray]:
    """Means of both, sample variances of both and the covariance, in windows that lie inside."""
    margin = SSIM_WINDOW_PX // 2
    windows = len(image) * math.prod(side - 2 * margin for side in image.shape[-2:])
    step = math.ceil(math.sqrt(windows / most))
    kept = np.s_[:, margin:-margin:step, margin:-margin:step]
    size = (1, SSIM_WINDOW_PX, SSIM_WINDOW_PX)

    def mean(product: np.ndarray) -> FloatArray:
        filtered: FloatArray = uniform_filter(product, size, output=np.float64)[kept]
        return filtered

    x, y = mean(image), mean(target)
    bessel = SSIM_WINDOW_PX**2 / (SSIM_WINDOW_PX**2 - 1)
    products = ((image * image, x * x), (target * target, y * y), (image * target, x * y))
    return [x, y, *(bessel * (mean(product) - square) for product, square in products)]
