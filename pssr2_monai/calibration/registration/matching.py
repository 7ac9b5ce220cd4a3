"""Matching two images: phase correlation for a first guess, mutual information to refine it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import itk
import numpy as np
import numpy.typing as npt
from itk.itkAffineTransformPython import itkAffineTransformD2
from itk.itkBSplineInterpolateImageFunctionPython import itkBSplineInterpolateImageFunctionIF2DF
from itk.itkEuler2DTransformPython import itkEuler2DTransformD
from itk.itkImageRegistrationMethodv4Python import itkImageRegistrationMethodv4REGv4F2F2
from itk.itkMattesMutualInformationImageToImageMetricv4Python import (
    itkMattesMutualInformationImageToImageMetricv4IF2IF2,
)
from itk.itkOptimizerParametersPython import itkOptimizerParametersD
from itk.itkRegularStepGradientDescentOptimizerv4Python import itkRegularStepGradientDescentOptimizerv4D
from itk.itkSimilarity2DTransformPython import itkSimilarity2DTransformD
from itk.itkTranslationTransformPython import itkTranslationTransformD2
from scipy import fft
from scipy.ndimage import affine_transform
from scipy.signal.windows import tukey

DEGREES = np.arange(-4.0, 4.1)
RATIOS = np.arange(0.96, 1.041, 0.01)
MAX_SHIFT_SHARE = 0.25  # of the image's side: at greater shifts the small overlap looks alike by chance
PASSBAND = (0.02, 0.15)  # cycles per pixel of the phases correlated: neither shading nor what is mostly noise
FloatArray = npt.NDArray[Any]


def search(lr: FloatArray, hr: FloatArray, model: str) -> FloatArray:
    """Return the map between two images ``(Y, X)`` of one pixel size at the highest peak of their phase correlation.

    The peak's absolute value is taken, so that inverted contrast is found, too. scikit-image's function takes its peak
    anywhere and does not return its height; here it lies within ``MAX_SHIFT_SHARE``, and decides between rotations and
    sizes; shear is not searched. The images' mean is 0. The matrix ``(2, 3)`` from a place ``(y, x, 1)`` in ``lr`` to
    that in ``hr`` is good to a pixel or two.
    """
    shape, masks = tuple(max(sides) for sides in zip(lr.shape, hr.shape, strict=True)), []
    for whole, *sides in zip(shape, lr.shape, hr.shape, strict=True):
        farthest = MAX_SHIFT_SHARE * min(sides) + abs(sides[0] - sides[1]) / 2
        masks.append(np.abs(fft.fftfreq(whole, 1 / whole)) <= farthest)
    near = np.outer(*masks)
    lr, lr_corner = _placed(lr, shape)
    hr, hr_corner = _placed(hr, shape)
    frequency = np.hypot(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None])
    low, high = PASSBAND
    passband = np.exp(-0.5 * (frequency / high) ** 2) * -np.expm1(-0.5 * (frequency / low) ** 2)
    lr_phases = _phases(lr) * passband
    centre = (np.array(shape) - 1) / 2
    best, matrix = -1.0, np.eye(2, 3)
    for degrees in [0.0] if model == "shift" else DEGREES:
        for ratio in RATIOS if model in ("similarity", "affine") else [1.0]:
            angle = math.radians(degrees)
            linear = ratio * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
            turned = affine_transform(hr, linear, centre - linear @ centre, order=1)
            surface = np.abs(fft.irfft2(lr_phases * _phases(turned).conj(), shape)) * near
            peak = np.unravel_index(int(surface.argmax()), shape)
            if surface[peak] > best:
                best = float(surface[peak])
                moved = [place if place <= side // 2 else place - side for place, side in zip(peak, shape, strict=True)]
                start = linear @ (lr_corner - moved - centre) + centre - hr_corner
                matrix = np.column_stack([linear, start])
    return matrix


def _placed(image: FloatArray, shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """The image, faded out, in the middle of zeros, and where its corner lies there."""
    corner = np.array([(whole - side) // 2 for whole, side in zip(shape, image.shape, strict=True)])
    placed = np.zeros(shape, np.float32)
    rows, columns = (slice(first, first + side) for first, side in zip(corner, image.shape, strict=True))
    placed[rows, columns] = windowed(image)
    return placed, corner


def windowed(image: FloatArray, fading: float = 1.0) -> FloatArray:
    """Return the image about its mean, fading to 0 at its borders over a share of its side, both ends together."""
    weights = np.outer(*(tukey(side + 2, fading)[1:-1] for side in image.shape))
    return (image - (image * weights).sum() / weights.sum()) * weights


def _phases(image: FloatArray) -> npt.NDArray[np.complexfloating[Any, Any]]:
    spectrum = fft.rfft2(image)
    return spectrum / np.maximum(np.abs(spectrum), np.finfo(np.float32).tiny)


MODELS = ("shift", "rigid", "similarity", "affine")  # a shift; with rotation; with another size; with shear
HISTOGRAM_BINS = 32
FIRST_STEP_PX, LAST_STEP_PX = 0.5, 1e-4  # that the refinement moves the image's points by, first and at its end
MAX_STEPS = 200
_TRANSFORMS = {
    "shift": itkTranslationTransformD2,
    "rigid": itkEuler2DTransformD,
    "similarity": itkSimilarity2DTransformD,
    "affine": itkAffineTransformD2,
}


def refine(fixed: FloatArray, moving: FloatArray, scale: int, start: FloatArray, model: str) -> FloatArray:
    """Return the map near ``start`` at which two images have the greatest mutual information.

    Every pixel of ``fixed`` is a sample, and one thread does the work: the same images always give the same map. Both
    are smooth images ``(Y, X)`` of one field; ``scale`` pixels of ``moving`` are as long as one of ``fixed``. Maps
    lead from a place ``(y, x, 1)`` in ``fixed`` to that in ``moving``, both in pixels of ``fixed`` from the centre of
    its first one; the area of either image begins at -0.5. ITK raises a RuntimeError where the images do not overlap
    or have too little structure.

    Source: Mattes et al. 2003, IEEE Trans. Med. Imaging 22:120.
    """
    centre = (np.array(fixed.shape) - 1) / 2
    transform = _TRANSFORMS[model].New()
    if model != "shift":
        transform.SetCenter([float(centre[1]), float(centre[0])])
    transform.SetParameters(_itk_parameters(_parameters(start[:, :2], start[:, 2], centre, model)))

    metric = itkMattesMutualInformationImageToImageMetricv4IF2IF2.New()
    metric.SetNumberOfHistogramBins(HISTOGRAM_BINS)
    metric.SetUseMovingImageGradientFilter(False)
    metric.SetUseFixedImageGradientFilter(False)
    metric.SetMaximumNumberOfWorkUnits(1)
    interpolator = itkBSplineInterpolateImageFunctionIF2DF.New()
    interpolator.SetSplineOrder(3)
    metric.SetMovingInterpolator(interpolator)

    optimizer = itkRegularStepGradientDescentOptimizerv4D.New()
    optimizer.SetLearningRate(FIRST_STEP_PX)
    optimizer.SetMinimumStepLength(LAST_STEP_PX)
    optimizer.SetRelaxationFactor(0.5)
    optimizer.SetNumberOfIterations(MAX_STEPS)
    optimizer.SetGradientMagnitudeTolerance(1e-8)
    optimizer.SetReturnBestParametersAndValue(True)
    optimizer.SetScales(_itk_parameters(_scales(fixed.shape, model)))

    registration = itkImageRegistrationMethodv4REGv4F2F2.New()
    registration.SetNumberOfWorkUnits(1)
    registration.SetFixedImage(_itk_image(fixed, 1.0))
    registration.SetMovingImage(_itk_image(moving, 1 / scale))
    registration.SetInitialTransform(transform)
    registration.SetInPlace(True)
    registration.SetMetric(metric)
    registration.SetOptimizer(optimizer)
    registration.SetNumberOfLevels(1)
    registration.SetShrinkFactorsPerLevel([1])
    registration.SetSmoothingSigmasPerLevel([0])
    registration.Update()

    optimum = transform.GetParameters()
    return _matrix([optimum.GetElement(number) for number in range(optimum.GetSize())], centre, model)


def _parameters(linear: FloatArray, shift: FloatArray, centre: FloatArray, model: str) -> list[float]:
    """ITK's parameters, x before y, of the map ``linear @ place + shift``."""
    across = (linear @ centre + shift - centre)[::-1]
    angle = float(np.arctan2(linear[0, 1] - linear[1, 0], linear[0, 0] + linear[1, 1]))
    first = {
        "shift": [],
        "rigid": [angle],
        "similarity": [float(np.sqrt(np.linalg.det(linear))), angle],
        "affine": linear[::-1, ::-1].ravel().tolist(),
    }
    return [*first[model], *across.tolist()]


def _matrix(parameters: Sequence[float], centre: FloatArray, model: str) -> FloatArray:
    """The map ``(2, 3)`` of ITK's parameters."""
    *first, across, down = parameters
    if model == "affine":
        linear = np.array(first).reshape(2, 2)[::-1, ::-1]
    else:
        ratio, angle = {"shift": (1.0, 0.0), "rigid": (1.0, *first), "similarity": tuple(first)}[model]
        linear = ratio * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, centre + np.array([down, across]) - linear @ centre])


def _scales(shape: tuple[int, ...], model: str) -> list[float]:
    """The mean squared distance in pixels by which a unit of each parameter moves the image's points."""
    y, x = ((side**2 - 1) / 12 for side in shape)
    turn = y + x
    first = {"shift": [], "rigid": [turn], "similarity": [turn, turn], "affine": [x, y, x, y]}
    return [*first[model], 1.0, 1.0]


def _itk_parameters(values: Sequence[float]) -> Any:
    parameters = itkOptimizerParametersD()
    parameters.SetSize(len(values))
    for number, value in enumerate(values):
        parameters.SetElement(number, float(value))
    return parameters


def _itk_image(pixels: FloatArray, size: float) -> Any:
    """An ITK image of pixels of a size, whose area begins at -0.5."""
    image = itk.image_from_array(np.ascontiguousarray(pixels, dtype=np.float32))
    image.SetSpacing([size, size])
    image.SetOrigin([size / 2 - 0.5] * 2)
    return image
