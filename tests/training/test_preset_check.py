"""What a preset may do: set values and choose registered classes; the rest needs to be trusted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pssr2_monai import registered_names
from pssr2_monai.bundle import bundle_dir, configs_dir
from pssr2_monai.crappify import NOISES
from pssr2_monai.errors import InputError
from pssr2_monai.registered_names import import_packages
from pssr2_monai.training.config import config_files, read_config
from pssr2_monai.training.preset_check import check_data, is_shipped
from pssr2_monai.training.preview import crappify_images, preprocess, preview
from pssr2_monai.training.train import train

RUN = "open('ran', 'w')"
POISSON = {"_target_": "pssr2_monai.PoissonNoise", "intensity": [0.5, 1.0]}
LOSS = {"_target_": "pssr2_monai.MSSSIML1Loss", "mix": 0.8}
HOSTILE: dict[str, tuple[dict[str, Any], str, str]] = {
    "expression": ({"lr": f"${RUN}"}, "lr", f"${RUN}"),
    "expression in a list": ({"crappifier#noises": [POISSON | {"intensity": [0, f"${RUN}"]}]}, "intensity#1", RUN),
    "import": ({"+imports": ["$import planted_module"]}, "imports#0", "$import planted_module"),
    "import by number": ({"imports#0": "$import planted_module"}, "imports#0", "planted_module"),
    "an expression of the bundle at another id": ({"seed": "$@output_dir + '/tensorboard'"}, "seed", "$@output_dir"),
    "another file": ({"network_def": "%other.json::network_def"}, "network_def", "%other.json"),
    "another id": ({"training": "%imports"}, "training", "%imports"),
    "class": ({"network_def": {"_target_": "os.system", "command": "touch ran"}}, "network_def#_target_", "os.system"),
    "class by its id": ({"network_def#_target_": "torch.hub.load"}, "network_def#_target_", "torch.hub.load"),
    "class in the current folder": ({"loss": {"_target_": "planted_module.L"}}, "loss#_target_", "planted_module.L"),
    "class of a short name": ({"loss": {"_target_": "planted_module"}}, "loss#_target_", "planted_module"),
    "class that fetches": (
        {"network_def": {"_target_": "HoVerNet", "pretrained_url": "file:///etc/passwd"}},
        "network_def#_target_",
        "HoVerNet",
    ),
    "transform that calls": (
        {"crappifier#noises": [{"_target_": "monai.transforms.LoadImage", "reader": "os.system", "command": "x"}]},
        "crappifier#noises#0#_target_",
        "monai.transforms.LoadImage",
    ),
    "class of the bundle at another id": (
        {"loss": {"_target_": "pssr2_monai.training.train.train"}},
        "loss#_target_",
        "pssr2_monai.training.train.train",
    ),
    "class that is not a name": ({"loss": {"_target_": {"_target_": "os.system"}}}, "loss#_target_", "os.system"),
    "mode": ({"loss": LOSS | {"_mode_": "debug"}}, "loss#_mode_", "debug"),
    "requirement": ({"loss": LOSS | {"_requires_": f"${RUN}"}}, "loss#_requires_", RUN),
    "requirements": ({"loss": LOSS | {"_requires_": [f"${RUN}"]}}, "loss#_requires_", RUN),
    "switch": ({"loss": LOSS | {"_disabled_": f"${RUN}"}}, "loss#_disabled_", RUN),
    "text where a class is referred to": ({"preprocessing": {"load": "os.system"}}, "preprocessing#load", "os.system"),
    "reference where a class is referred to": ({"preprocessing#crappify": "@lr"}, "preprocessing#crappify", "@lr"),
    "compiler": (
        {"train#trainer#compile_kwargs": {"options": {"cuda.cuda_cxx": "./planted"}}},
        "train#trainer#compile_kwargs#options#cuda.cuda_cxx",
        "./planted",
    ),
    "folder of the weights": ({"checkpoints#save_dir": "/elsewhere"}, "checkpoints#save_dir", "/elsewhere"),
    "another training": ({"checkpoints": {"resume": "/other/last.pt"}}, "checkpoints#resume", "/other/last.pt"),
    "debugger": ({"loss": LOSS | {"_debug_": True}}, "loss#_debug_", "True"),
}
PLAIN: list[dict[str, Any]] = [
    {},
    {"scale": 2, "crappifier#noises": [POISSON | {"_disabled_": False, "_desc_": "of the detector"}], "lr_dir": None},
    {"crappifier#noises": [{"_target_": "pssr2_monai.noises.Blur", "sigma": 1}]},
    {"crappifier": {"_target_": "pssr2_monai.crappify.Crappify", "scale": "@scale", "noises": []}},
    {"network_def": {"_target_": "monai.networks.nets.BasicUNet", "in_channels": "@lr_frames", "spatial_dims": 2}},
    {"network_def": {"_target_": "BasicUNet", "in_channels": "@lr_frames", "spatial_dims": 2}},
    {"loss": {"_target_": "torch.nn.MSELoss"}},
    {"optimizer": {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": "@lr"}},
    {"train#dataloader#pin_memory": True, "+validate#handlers": []},
]


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Path]:
    """A function that writes a preset in a folder where there is a module to be run."""
    (tmp_path / "planted_module.py").write_text(RUN + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(content: Any) -> Path:
        path = tmp_path / "received.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.mark.trust
@pytest.mark.parametrize(("content", "config_id", "string"), HOSTILE.values(), ids=HOSTILE.keys())
def test_what_would_run_is_refused_by_its_id_unless_trusted(
    content: dict[str, Any], config_id: str, string: str, preset: Callable[[Any], Path]
) -> None:
    path = preset(content)
    with pytest.raises(InputError) as error:
        config_files("train", str(path))
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert config_id in message
    assert string in message
    assert "--trust" in message
    assert "\n" not in message
    assert not Path("ran").exists()
    assert "planted_module" not in sys.modules
    assert read_config(path, trust=True) == content


@pytest.mark.trust
def test_whatever_reads_presets_checks_them(preset: Callable[[Any], Path], hr_folder: Path) -> None:
    path = str(preset({"lr": f"${RUN}"}))
    calls: list[Callable[[], Any]] = [
        lambda: train(hr_folder, "run", preset=path),
        lambda: crappify_images(hr_folder, "crappified", preset=path),
        lambda: preprocess(hr_folder, "tiles", preset=path),
        lambda: preview(hr_folder / "cell_0.png", preset=path),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"received\.json: lr: .*--trust"):
            call()
    assert sorted(item.name for item in Path().iterdir()) == ["planted_module.py", "received.json"]
    crappify_images(hr_folder / "cell_0.png", "crappified.png", preset=str(preset({"seed": "$1 + 1"})), trust=True)


def test_the_users_own_settings_stay_programs(preset: Callable[[Any], Path], hr_folder: Path) -> None:
    lr, _ = preview(hr_folder / "cell_0.png", scale="$1 + 1", **{"crappifier#noises": []})
    assert lr.shape == (1, 48, 56)


@pytest.mark.parametrize("content", PLAIN, ids=json.dumps)
def test_values_and_registered_classes_are_taken(content: dict[str, Any], preset: Callable[[Any], Path]) -> None:
    check_data(preset(content), content)


@pytest.mark.parametrize("file", sorted(configs_dir().glob("*.json")), ids=lambda file: file.stem)
def test_copies_of_the_shipped_presets_are_data(file: Path, tmp_path: Path) -> None:
    assert is_shipped(file)
    copy = tmp_path / file.name
    copy.write_bytes(file.read_bytes())
    assert not is_shipped(copy)
    assert config_files("train", str(copy))[-1] == str(copy)


TEXTS = st.sampled_from(["", "bilinear", "@scale", "a$b", "100%", "-$", "os.system", "../x"])
PROGRAMS = st.sampled_from(["$abort()", "$", "%imports", "%other.json::lr", "$@lr", "$import os"])


def values(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """JSON of these texts, under keys that choose nothing by themselves."""
    keys = st.sampled_from(["lr", "tile", "a#b", "+c", "d::e", "0", "_desc_"])
    leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


@pytest.mark.trust
@given(st.dictionaries(st.text(min_size=1).filter(str.isalpha), values(TEXTS | PROGRAMS), max_size=4))
def test_random_presets_are_refused_if_any_text_in_them_would_run(content: dict[str, Any]) -> None:
    programs = [text for text in _texts(content) if text[:1] in ("$", "%")]
    if not programs:
        check_data(Path("a.json"), content)
        return
    with pytest.raises(InputError, match=r"^a\.json: ") as error:
        check_data(Path("a.json"), content)
    assert any(repr(program) in str(error.value) for program in programs)


def _texts(content: Any) -> list[str]:
    if isinstance(content, dict):
        return [text for value in content.values() for text in _texts(value)]
    if isinstance(content, list):
        return [text for value in content for text in _texts(value)]
    return [content] if isinstance(content, str) else []


def test_every_noise_can_be_chosen(tmp_path: Path) -> None:
    check_data(tmp_path, {"crappifier#noises": [{"_target_": noise.target()} for noise in NOISES.values()]})


def test_a_short_name_of_ours_is_refused_with_the_one_to_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="network_def#_target_: write pssr2_monai.RCAN instead of 'RCAN'"):
        check_data(tmp_path, {"network_def": {"_target_": "RCAN"}})


def test_classes_of_a_package_that_the_user_names_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registered_names, "_packages", set())
    content = {"network_def": {"_target_": "networks_of_mine.Small", "features": 8}}
    with pytest.raises(InputError, match="--import"):
        check_data(tmp_path, content)
    (tmp_path / "networks_of_mine.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    import_packages("networks_of_mine")
    check_data(tmp_path, content)


@pytest.mark.trust
@pytest.mark.parametrize(
    ("text", "match"), [("[1, 2]", "is not a preset"), ("{", "is not JSON"), ("[" * 100_000, "is not JSON")]
)
def test_other_files_are_refused(text: str, match: str, preset: Callable[[Any], Path]) -> None:
    with pytest.raises(InputError, match=rf"received\.json: {match}"):
        config_files("train", str(preset(text)))


@pytest.mark.trust
def test_a_run_is_resumed_with_the_config_that_the_bundle_wrote_alone(
    preset: Callable[[Any], Path], hr_folder: Path, tmp_path: Path
) -> None:
    config = json.loads((bundle_dir() / "configs" / "train.json").read_text())
    check_data(tmp_path, config | {"dataset_dir": str(hr_folder), "epochs": 3})
    run = tmp_path / "run"
    run.mkdir()
    (run / "last.pt").touch()
    (run / "config.json").write_text(json.dumps(config | {"initialize": [f"${RUN}"]}))
    with pytest.raises(InputError, match=r"config\.json: initialize#0: .*--trust"):
        train(hr_folder, run, resume=True)
    assert not Path("ran").exists()


@pytest.mark.trust
def test_a_device_is_data_and_nothing_that_looks_like_it(tmp_path: Path) -> None:
    for device in ("cpu", "cuda:1"):
        check_data(tmp_path / "config.json", {"device": f"$torch.device('{device}')"})
    for expression in ("$torch.device('cpu').__class__", "$torch.device(f())", "$torch.device('a' or f('b'))"):
        with pytest.raises(InputError, match="would be run"):
            check_data(tmp_path / "config.json", {"device": expression})
