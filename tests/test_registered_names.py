"""Registered names: what a saved file can ask for, and that nothing else is looked up, imported or called."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pssr2_monai import registered_names
from pssr2_monai.crappify import NOISES, Crappify, PoissonNoise
from pssr2_monai.errors import InputError
from pssr2_monai.networks import AsVolume, ResUNet
from pssr2_monai.registered_names import (
    FILE_ARGUMENT,
    MONAI_NETWORKS,
    build,
    find,
    from_imported_package,
    import_packages,
    name_of,
    names,
    register,
    register_network,
    short_names,
)

OWN_NETWORKS = [
    "AsVolume",
    "NAFNet",
    "RCAN",
    "RDResUNet",
    "RDResUNetA",
    "ResUNet",
    "ResUNetA",
    "ScaledRestormer",
    "SwinIR",
]
MONAI_ARGUMENTS: dict[str, dict[str, Any]] = {
    "AttentionUnet": {"channels": [4, 8], "strides": [2]},
    "AutoEncoder": {"channels": [4, 4], "strides": [1, 1]},
    "BasicUNet": {"features": [8, 8, 8, 8, 8, 8]},
    "DynUNet": {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 8, 8]},
    "HighResNet": {"layer_params": [{"name": "conv_0", "n_features": 4, "kernel_size": 3}] * 2},
    "MedNeXt": {"init_filters": 4, "kernel_size": 3},
    "Restormer": {"dim": 8, "num_refinement_blocks": 1},
    "SegResNet": {"init_filters": 8},
    "SwinUNETR": {"feature_size": 12, "depths": [1, 1, 1, 1]},
    "UNETR": {"img_size": [32, 32], "hidden_size": 24, "mlp_dim": 24, "num_heads": 12, "feature_size": 4},
    "UNet": {"channels": [4, 8], "strides": [2], "norm": ["GROUP", {"num_groups": 2}]},
    "VNet": {},
}


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test registers is forgotten afterwards."""
    monkeypatch.setattr(
        registered_names, "_registered", {kind: dict(known) for kind, known in registered_names._registered.items()}
    )
    monkeypatch.setattr(registered_names, "_packages", set())


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored: None) -> Iterator[Path]:
    """A package ``microscope_networks`` that can be imported."""
    folder = tmp_path / "packages" / "microscope_networks"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "from monai.networks.nets import HoVerNet\n"
        "from microscope_networks.inner import Dimmed, Smooth, helper\n"
        "class Wrapper(Smooth):\n"
        "    def __init__(self, network=None, pretrained=False, weights_url=None):\n"
        "        super().__init__()\n"
        "        self.network = network\n"
    )
    (folder / "inner.py").write_text(
        "from monai.transforms import Transform\n"
        "from torch import nn\n"
        "class Smooth(nn.AvgPool2d):\n"
        "    def __init__(self, size=3):\n"
        "        super().__init__(size, 1, size // 2)\n"
        "class Dimmed(Transform):\n"
        "    def __init__(self, by=0.5):\n"
        "        self.by = by\n"
        "    def __call__(self, image):\n"
        "        return image * self.by\n"
        "def helper():\n"
        "    raise AssertionError\n"
    )
    (folder / "unseen.py").write_text("raise AssertionError('nobody asked for this module')\n")
    monkeypatch.syspath_prepend(folder.parent)
    yield folder
    for name in [name for name in sys.modules if name.startswith("microscope_networks")]:
        del sys.modules[name]


def test_the_registered_names_are_the_classes_of_the_rooms_and_the_allow_list() -> None:
    assert names("network") == sorted([*OWN_NETWORKS, *MONAI_ARGUMENTS])
    assert names("crappifier") == ["Crappify", "Downsample"]
    assert names("noise") == sorted(noise.__name__ for noise in NOISES.values())
    assert find("network", "ResUNet") is ResUNet
    assert find("noise", "PoissonNoise") is PoissonNoise


@pytest.mark.parametrize("name", MONAI_NETWORKS)
def test_networks_of_monai_take_plain_values_and_give_images(name: str) -> None:
    network = find("network", name)
    assert network is not None
    for parameter in inspect.signature(network).parameters.values():
        assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        assert not FILE_ARGUMENT.search(parameter.name) or "hyena" in parameter.name
        assert "Callable" not in str(parameter.annotation)
    if name in ("Restormer", "SwinUNETR", "UNETR"):
        pytest.importorskip("einops", reason="MONAI's transformers need einops")
    arguments = {"in_channels": 1, "out_channels": 1, **MONAI_ARGUMENTS[name]}
    built = build("network", {"_target_": name, "spatial_dims": 2, **arguments}, "model.pt").eval()
    with torch.no_grad():
        assert built(torch.rand(1, 1, 32, 32)).shape == (1, 1, 32, 32)


@pytest.mark.parametrize(
    ("kind", "dotted", "name"),
    [
        ("network", "pssr2_monai.networks.ResUNet", "ResUNet"),
        ("network", "pssr2_monai.RCAN", "RCAN"),
        ("network", "monai.networks.nets.BasicUNet", "BasicUNet"),
        ("crappifier", "pssr2_monai.crappify.Crappify", "Crappify"),
        ("noise", "pssr2_monai.noises.PoissonNoise", "PoissonNoise"),
        ("noise", "pssr2_monai.crappify.Blur", "Blur"),
        ("network", "monai.networks.nets.HoVerNet", "monai.networks.nets.HoVerNet"),
        ("network", "pssr2_monai.noises.PoissonNoise", "pssr2_monai.noises.PoissonNoise"),
        ("noise", "os.PoissonNoise", "os.PoissonNoise"),
    ],
)
def test_dotted_names_of_the_first_release_become_registered_ones(kind: Any, dotted: str, name: str) -> None:
    assert short_names(kind, {"_target_": dotted, "sigma": [1, 2]}) == {"_target_": name, "sigma": [1, 2]}


def test_names_are_shortened_at_every_depth() -> None:
    old = {
        "_target_": "pssr2_monai.crappify.Crappify",
        "scale": 2,
        "noises": [{"_target_": "pssr2_monai.noises.Blur", "sigma": {"mean": 1, "spread": 0}}],
    }
    new = {"_target_": "Crappify", "scale": 2, "noises": [{"_target_": "Blur", "sigma": {"mean": 1, "spread": 0}}]}
    assert short_names("crappifier", old) == new
    crappify = build("crappifier", old, "model.pt")
    assert isinstance(crappify, Crappify)
    assert [type(noise).__name__ for noise in crappify.noises] == ["Blur"]


def test_a_network_within_a_network_is_built() -> None:
    inner = {"_target_": "ResUNet", "channels": [8, 8], "depth": 0, "spatial_dims": 3, "scale": [1, 2, 2]}
    network = build("network", {"_target_": "AsVolume", "network": inner, "_desc_": "a comment"}, "model.pt")
    assert isinstance(network, AsVolume)
    assert isinstance(network.network, ResUNet)


@pytest.mark.trust
@pytest.mark.parametrize(
    ("kind", "config", "match"),
    [
        ("network", {"_target_": "os.system", "command": "true"}, "network 'os.system' is not registered"),
        ("network", {"_target_": "ResUnet"}, "'ResUnet' is not registered; did you mean 'ResUNet'?"),
        ("network", {"_target_": "PoissonNoise"}, "'PoissonNoise' is not registered"),
        ("noise", {"_target_": "ResUNet"}, "noise 'ResUNet' is not registered"),
        ("network", {"_target_": "AsVolume", "network": {"_target_": "torch.nn.Identity"}}, "'torch.nn.Identity' is n"),
        ("crappifier", {"_target_": "Crappify", "scale": 2, "noises": [{"_target_": "Crappify"}]}, "noise 'Crappify'"),
        ("noise", {"_target_": "Blur", "sigma": {"_target_": "Blur"}}, "a noise takes plain values alone"),
        ("network", {"_target_": "ResUNet", "depth": 10**30}, "depth: a whole number beyond 65536"),
        ("network", {"_target_": "ResUNet", "channels": [8, [1e999]]}, "inf is not a number"),
        ("network", {"_target_": "ResUNet", "channels": torch.rand(2)}, "a Tensor is not a plain value"),
        ("network", {"_target_": "ResUNet", "weights_path": "x"}, "'weights_path' may load files or code"),
        ("network", {"_target_": "ResUNet", "nowhere": 1}, "ResUNet does not take the recorded arguments"),
        ("network", {"_target_": "ResUNet", "scale": 0}, "ResUNet: scale: found 0"),
        ("network", {"_target_": "SwinUNETR", "in_channels": 1, "out_channels": 1, "use_hyena": True}, "'use_hyena'"),
        ("network", {"_target_": 3}, "names no network under '_target_'"),
        ("network", [1], "names no network under '_target_'"),
    ],
)
def test_anything_else_is_one_line_that_names_the_file(kind: Any, config: Any, match: str) -> None:
    with pytest.raises(InputError) as error:
        build(kind, config, "model.pt")
    message = str(error.value)
    assert message.startswith("model.pt: ")
    assert match in message
    assert "\n" not in message
    assert message.count("model.pt") == 1


@pytest.mark.trust
def test_names_are_checked_before_anything_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "planted_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (tmp_path / "ResUNetX.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    for target in ("planted_package.Network", "planted_package", "ResUNetX", "unittest.__main__.x", "..x", "$1", ""):
        with pytest.raises(InputError, match="is not registered"):
            build("network", {"_target_": target}, "model.pt")
    assert not (tmp_path / "ran").exists()
    assert not {"planted_package", "ResUNetX", "unittest.__main__"} & sys.modules.keys()


def test_a_package_that_the_user_names_is_registered_under_dotted_names(package: Path) -> None:
    config = {"_target_": "microscope_networks.inner.Smooth", "size": 5}
    with pytest.raises(InputError, match=r"not registered; if it is your own, .* --import PACKAGE"):
        build("network", config, "model.pt")
    import_packages("microscope_networks")
    assert build("network", config, "model.pt").kernel_size == 5
    assert build("network", config | {"_target_": "microscope_networks.Smooth"}, "model.pt").kernel_size == 5
    wrapped = build("network", {"_target_": "microscope_networks.Wrapper", "network": config}, "model.pt")
    assert wrapped.network.kernel_size == 5
    dimmed = {"_target_": "microscope_networks.Dimmed", "by": 0.25}
    crappify = build("crappifier", {"_target_": "Crappify", "scale": 1, "noises": [dimmed]}, "model.pt")
    assert float(crappify(torch.ones(1, 4, 4)).mean()) == 0.25
    assert from_imported_package("microscope_networks.inner.Smooth")
    assert not from_imported_package("microscope_networks_of_others.Smooth")


@pytest.mark.parametrize("name", ["HoVerNet", "helper", "inner.nn.Linear", "unseen.Network", "__builtins__"])
def test_of_a_package_its_own_classes_alone_are_registered(name: str, package: Path) -> None:
    import_packages(["microscope_networks"])
    with pytest.raises(InputError, match="is not registered"):
        build("network", {"_target_": f"microscope_networks.{name}"}, "model.pt")
    assert "microscope_networks.unseen" not in sys.modules


@pytest.mark.trust
def test_arguments_that_fetch_are_refused_unless_switched_off(package: Path) -> None:
    import_packages("microscope_networks")
    config = {"_target_": "microscope_networks.Wrapper"}
    build("network", config | {"pretrained": False, "weights_url": None}, "model.pt")
    for arguments in ({"pretrained": True}, {"weights_url": "file:///etc/passwd"}):
        with pytest.raises(InputError, match="may load files or code"):
            build("network", config | arguments, "model.pt")


@pytest.mark.parametrize(
    ("word", "match"),
    [
        ("no_such_package_here", "cannot be imported"),
        ("./networks.py", "is not the name of a package"),
        ("os; x", "is not the name"),
    ],
)
def test_packages_that_cannot_be_imported_are_refused(word: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        import_packages(word)


def test_a_function_can_be_registered_too(restored: None) -> None:
    @register_network
    def small(features: int) -> torch.nn.Module:
        return torch.nn.Conv2d(1, features, 1)

    target = f"{__name__}.{small.__qualname__}"
    assert build("network", {"_target_": target, "features": 3}, "model.pt").out_channels == 3


@pytest.mark.trust
def test_a_registered_name_cannot_be_taken_over(restored: None) -> None:
    def named(name: str) -> type:
        return type(name, (torch.nn.Identity,), {})

    for name in ("ResUNet", "BasicUNet"):
        with pytest.raises(InputError, match=f"the name {name} belongs to another network"):
            register("network", named(name))
    register("network", ResUNet)
    assert find("network", "ResUNet") is ResUNet


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("pssr2_monai.networks.resunet.ResUNet", "ResUNet"),
        ("monai.networks.nets.basic_unet.BasicUNet", "BasicUNet"),
        ("monai.networks.nets.Unet", "UNet"),
        ("torch.nn.Identity", "torch.nn.Identity"),
    ],
)
def test_a_training_records_the_registered_name_of_a_class(target: str, name: str) -> None:
    assert name_of("network", target) == name


def test_importing_the_registry_is_all_that_a_lookup_needs(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    script = tmp_path / "lookup.py"
    script.write_text(
        "import sys\n"
        "for name in [name for name in sys.modules if name.startswith('pssr2_monai')]:\n"
        "    del sys.modules[name]\n"
        "from pssr2_monai.registered_names import find\n"
        "print(find('noise', 'Blur'), find('network', 'RCAN'))"
    )
    run = run_python(script)
    assert run.end() == 0, run.stderr
    assert "scan_noises.Blur" in run.stdout
    assert "rcan.RCAN" in run.stdout
