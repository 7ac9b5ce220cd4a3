"""Choosing the arithmetic, and what it costs in digits."""

from __future__ import annotations

import pytest
import torch

from pssr2_monai.errors import InputError
from pssr2_monai.networks.precision import AutocastInferer, choose_precision


def test_a_precision_is_taken_as_asked_and_auto_is_one_of_them() -> None:
    cpu = torch.device("cpu")
    assert choose_precision("float32", cpu) is torch.float32
    assert choose_precision("bfloat16", cpu) is torch.bfloat16
    assert choose_precision("auto", cpu) in (torch.float32, torch.bfloat16)
    with pytest.raises(InputError, match="'float16' is unknown"):
        choose_precision("float16", cpu)


def test_the_output_is_float32_and_the_arithmetic_is_not() -> None:
    torch.manual_seed(0)
    network, image = torch.nn.Conv2d(1, 4, 3, padding=1), torch.rand(1, 1, 16, 16)
    exact = AutocastInferer("float32")(image, network)
    rough = AutocastInferer("bfloat16")(image, network)
    torch.testing.assert_close(exact, network(image), rtol=0, atol=0)
    assert rough.dtype is torch.float32
    assert 0 < (rough - exact).abs().max() < 0.02
