"""The commands of MONAI's bundles, and what the model zoo asks of one, run in this process."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ckpt_export, onnx_export, verify_metadata, verify_net_in_out

from pssr2_monai.networks.weights import load_weights

FREE = {"image": {0: "batch", 2: "height", 3: "width"}}


@pytest.fixture(params=["trained", "shipped"])
def weights(request: pytest.FixtureRequest, project_root: Path) -> Path:
    """Weights of a user's training, and those that lie in the bundle, where there are any."""
    if request.param == "trained":
        return Path(request.getfixturevalue("tiny_weights"))
    shipped = project_root / "bundle" / "models" / "model.pt"
    if not shipped.is_file():
        pytest.skip("bundle/models/model.pt is not here")
    return shipped


@pytest.fixture
def bundle(project_root: Path, weights: Path, tmp_path: Path) -> Path:
    """A copy of the bundle with weights."""
    shutil.copytree(project_root / "bundle", tmp_path / "bundle", ignore=shutil.ignore_patterns("models", "eval"))
    (tmp_path / "bundle" / "models").mkdir()
    shutil.copy(weights, tmp_path / "bundle" / "models" / "model.pt")
    return tmp_path / "bundle"


@pytest.mark.parametrize("config", ["inference", "train"])
def test_ckpt_export_writes_the_network(config: str, bundle: Path) -> None:
    network, record = load_weights(bundle / "models" / "model.pt")
    # The record has the registered name, which MONAI finds among the public names of the package.
    network_def = record.network | {"_target_": f"pssr2_monai.{record.network['_target_']}"}
    options = {} if config == "inference" else {f"network_def#{key}": value for key, value in network_def.items()}
    ckpt_export(
        filepath=str(bundle / "models" / "model.ts"),
        ckpt_file=str(bundle / "models" / "model.pt"),
        config_file=str(bundle / "configs" / f"{config}.json"),
        key_in_ckpt="model",
        bundle_root=str(bundle),
        **options,
    )
    extra = {"metadata.json": "", f"{config}.json": ""}
    script = torch.jit.load(str(bundle / "models" / "model.ts"), _extra_files=extra)
    assert json.loads(extra["metadata.json"])["name"] == "Point-scanning super-resolution"
    assert "network_def" in json.loads(extra[f"{config}.json"])
    for size in ((1, 1, 8, 8), (2, 1, 19, 30)):
        x = torch.rand(size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            torch.testing.assert_close(script(x), network(x), rtol=0, atol=1e-5)


def test_onnx_export_writes_the_network(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(tempfile, "tempdir", str(bundle))  # MONAI leaves the weights of its own copy there
    onnx_export(
        net_id="network_def",
        filepath=str(bundle / "models" / "model.onnx"),
        ckpt_file=str(bundle / "models" / "model.pt"),
        config_file=str(bundle / "configs" / "inference.json"),
        key_in_ckpt="model",
        input_shape=[2, 1, 24, 40],
        converter_kwargs={"input_names": ["image"], "output_names": ["pred"], "dynamic_axes": FREE},
        bundle_root=str(bundle),
    )
    session = onnxruntime.InferenceSession(bundle / "models" / "model.onnx")
    network, _ = load_weights(bundle / "models" / "model.pt")
    for size in ((1, 1, 8, 8), (3, 1, 19, 30)):
        x = torch.rand(size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = network(x).numpy()
        np.testing.assert_allclose(session.run(["pred"], {"image": x.numpy()})[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", ["inference", "train"])
def test_the_network_takes_and_gives_what_the_metadata_says(config: str, bundle: Path) -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / f"{config}.json"),
        device="cpu",
        bundle_root=str(bundle),
    )


@pytest.mark.shared_data
def test_the_metadata_follows_monais_schema(shared_data: Path, bundle: Path, tmp_path: Path) -> None:
    schema = shared_data.parent / "monai" / "meta_schema_20240725.json"
    if not schema.is_file():
        pytest.skip("MONAI's schema of metadata is not in ../shared/monai")
    meta = bundle / "configs" / "metadata.json"
    (tmp_path / "eval").mkdir()
    shutil.copy(schema, tmp_path / "eval" / "schema.json")  # where it is, it is not fetched
    verify_metadata(meta_file=str(meta), filepath=str(tmp_path / "eval" / "schema.json"))
    content = json.loads(meta.read_text())
    assert content["schema"].rsplit("/", 1)[-1] == schema.name
    meta.write_text(json.dumps(content | {"network_data_format": {"inputs": {}}}))
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(meta_file=str(meta), filepath=str(tmp_path / "eval" / "schema.json"))


def test_the_bundle_holds_what_the_zoo_asks_for(bundle: Path) -> None:
    content = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert content["version"] in content["changelog"]
    needed = ["LICENSE", "large_files.yml", "docs/README.md", "docs/data_license.txt"]
    needed += [f"configs/{name}" for name in ("inference.json", "logging.conf", "train.json", "multi_gpu_train.json")]
    assert [name for name in needed if not (bundle / name).is_file()] == []
