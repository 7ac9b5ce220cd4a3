"""Weights of pssr 2.4.0: stored outputs of its networks, and files that are not such weights.

``scripts/compare_with_pssr.py --settings tiny --keep tests/networks/pssr2_cases`` wrote the numbers in `pssr2_cases/`.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pssr2_monai.errors import InputError
from pssr2_monai.networks import load_pssr2
from pssr2_monai.registered_names import build

CASES = sorted((Path(__file__).parent / "pssr2_cases").glob("*.npz"))
CLASSES = {"resunet", "resunet_a", "rdresunet", "rdresunet_a", "swinir_direct", "swinir_denoise"}


def read_case(name: str) -> tuple[dict[str, Tensor], dict[str, Any], np.ndarray, np.ndarray]:
    with np.load(Path(__file__).parent / "pssr2_cases" / f"{name}.npz") as numbers:
        tensors = {
            key.removeprefix("tensor:"): torch.from_numpy(numbers[key])
            for key in numbers.files
            if key.startswith("tensor:")
        }
        return tensors, json.loads(str(numbers["case"])), numbers["image"], numbers["output"]


def saved(folder: Path, content: object) -> Path:
    torch.save(content, folder / "weights.pth")
    return folder / "weights.pth"


def test_every_architecture_is_kept() -> None:
    assert {path.stem for path in CASES} == CLASSES
    assert sum(path.stat().st_size for path in CASES) < 300_000


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_output_equals_the_originals(name: str, tmp_path: Path) -> None:
    tensors, case, image, expected = read_case(name)
    network, arguments = load_pssr2(saved(tmp_path, tensors), **case["options"])
    assert not network.training
    assert sum(parameter.numel() for parameter in network.parameters()) == case["parameters"]
    assert arguments["_target_"] == case["class"]
    with torch.no_grad():
        output = network(torch.from_numpy(image).float() / 255).numpy() * 255
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-3)
    assert expected.std() > 20  # grey levels: a network that gives one level would pass for equal too easily


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_arguments_build_the_same_network_from_json(name: str, tmp_path: Path) -> None:
    tensors, case, image, _ = read_case(name)
    network, arguments = load_pssr2(saved(tmp_path, tensors), **case["options"])
    record = json.loads(json.dumps(arguments))
    again = build("network", record, "test").eval()
    again.load_state_dict(network.state_dict())
    x = torch.from_numpy(image).float() / 255
    torch.testing.assert_close(again(x), network(x), rtol=0, atol=0)
    assert [record["scale"]] * 2 == network.scale
    assert (record["in_channels"], record["out_channels"]) == (network.in_channels, network.out_channels)


def test_arguments_of_the_original_are_recognised(tmp_path: Path) -> None:
    tensors, _, _, _ = read_case("rdresunet_a")
    _, arguments = load_pssr2(saved(tmp_path, tensors))
    expected = {
        "scale": 2,
        "channels": [8, 8],
        "depth": 0,
        "dilations": [[1], [1, 3]],
        "pool_sizes": [1, 2],
        "encoder_pool": True,
        "stem_channels": 16,
        "growth_rates": [4, 6],
        "downsample": [False, True],
        "squeeze_excite": [False, True],
        "n_blocks": [1, 2],
        "patch_size": 2,
        "bottleneck": 4.0,
        "compression": 0.5,
    }
    assert {key: arguments[key] for key in expected} == expected


class Trap:
    """Unpickled, this would leave a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.trust
@pytest.mark.parametrize("by_torch", [True, False])
def test_pickled_objects_are_never_run(tmp_path: Path, by_torch: bool) -> None:
    mark = tmp_path / "executed"
    path = tmp_path / "trap.pth"
    if by_torch:
        torch.save({"encoder.0.respass.weight": Trap(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(InputError, match=r"trap\.pth: is not a file of weights that can be read safely"):
        load_pssr2(path)
    assert not mark.exists()


def test_files_that_are_no_state_dict(tmp_path: Path) -> None:
    text = tmp_path / "notes.pth"
    text.write_text("no weights")
    with pytest.raises(InputError, match=r"notes\.pth: is not a file of weights that can be read safely"):
        load_pssr2(text)
    with pytest.raises(InputError, match=r"none\.pth: there is no such file of weights"):
        load_pssr2(tmp_path / "none.pth")
    with pytest.raises(InputError, match=r"weights\.pth: holds no weights"):
        load_pssr2(saved(tmp_path, torch.zeros(3)))
    with pytest.raises(InputError, match=r"weights\.pth: holds no weights"):
        load_pssr2(saved(tmp_path, {}))
    with pytest.raises(InputError, match="'model' is a dict"):
        load_pssr2(saved(tmp_path, {"model": {"weight": torch.zeros(3)}}))


def test_weights_of_another_package(tmp_path: Path) -> None:
    other = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4)).state_dict()
    with pytest.raises(InputError, match=r"weights\.pth: not weights of pssr 2\.x.*'0\.weight'"):
        load_pssr2(saved(tmp_path, other))


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_missing_extra_and_misshapen_tensors(name: str, tmp_path: Path) -> None:
    tensors, case, _, _ = read_case(name)
    # The last tensor of each block of names, so that both the recognition and the comparison are met.
    needed = [key for key in tensors if not key.endswith(("attn_mask", "relative_position_index"))]
    for key in (*needed[:: max(len(needed) // 12, 1)], needed[-1]):
        rest = {other: tensor for other, tensor in tensors.items() if other != key}
        with pytest.raises(InputError, match=r"weights\.pth: .*") as caught:
            load_pssr2(saved(tmp_path, rest), **case["options"])
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="'surplus'.*left over"):
        load_pssr2(saved(tmp_path, {**tensors, "surplus": torch.zeros(1)}), **case["options"])
    key = next(key for key in tensors if key.endswith(".bias"))
    with pytest.raises(InputError, match="shape"):
        load_pssr2(saved(tmp_path, {**tensors, key: torch.zeros(99)}), **case["options"])


def test_options_that_the_weights_do_not_have(tmp_path: Path) -> None:
    tensors, _, _, _ = read_case("resunet")
    path = saved(tmp_path, tensors)
    with pytest.raises(InputError, match=r"weights\.pth: scale: the weights are for 2, not for 4"):
        load_pssr2(path, scale=4)
    with pytest.raises(InputError, match="dilations: the weights are for None"):
        load_pssr2(path, dilations=[[1], [1]])
    with pytest.raises(InputError, match="heads: no argument of this network"):
        load_pssr2(path, heads=3)
    network, _ = load_pssr2(path, scale=2, channels=(4, 8))
    assert network.scale == [2, 2]


def test_scale_of_one_convolution_can_be_given(tmp_path: Path) -> None:
    tensors, _, _, _ = read_case("swinir_direct")
    assert load_pssr2(saved(tmp_path, tensors))[1]["scale"] == 3
    network, arguments = load_pssr2(saved(tmp_path, tensors), scale=1)
    assert (arguments["out_channels"], network.scale) == (9, [1, 1])


def test_tensors_of_impossible_sizes_end_in_one_line(tmp_path: Path) -> None:
    tensors, case, _, _ = read_case("resunet")
    for name, tensor in tensors.items():
        if tensor.ndim:
            huge = torch.zeros(1).expand(2**40, *tensor.shape[1:])  # a shape without the memory for it
            with pytest.raises(InputError, match=r"weights\.pth: "):
                load_pssr2(saved(tmp_path, {**tensors, name: huge}), **case["options"])
