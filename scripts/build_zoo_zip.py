r"""Build the zip of the bundle for MONAI's model zoo, and check it as the zoo does.

    python scripts/build_zoo_zip.py --out dist
    python scripts/build_zoo_zip.py --url https://example.org/model.pt --out dist

The zip is the same, byte for byte, for the same files. It contains the weights as a plain state dict with their record
next to it, as the zoo's tools load them, and ``train.json`` contains the network and crappifier that they were trained
with. With ``--url`` the zip contains no weights; ``large_files.yml`` says where to download them, and the file to put
there is written next to the zip. The zip is unpacked elsewhere and checked with MONAI's own commands; ``--schema``
names a local copy of the metadata's schema, for machines without a network.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ckpt_export, create_workflow, load, verify_metadata, verify_net_in_out
from PIL import Image
from scipy.ndimage import gaussian_filter

import pssr2_monai
from pssr2_monai.errors import InputError
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights, save_plain

BUNDLE = Path(__file__).resolve().parents[1] / "bundle"
NAME = "point_scanning_super_resolution"
SENT = ("LICENSE", "large_files.yml", "configs/*.json", "configs/logging.conf", "docs/*")
"""Files of the bundle that are sent, apart from the weights; nothing that a training left behind."""
WEIGHTS = Path("models/model.pt")
LARGEST = 25 * 2**20
"""Largest file that the zoo accepts, bytes."""
LONG_AGO = (1980, 1, 1, 0, 0, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=BUNDLE / WEIGHTS)
    parser.add_argument("--url", help="where the weights will be downloaded from, instead of being in the zip")
    parser.add_argument("--schema", type=Path, help="the schema that metadata.json names, if it cannot be downloaded")
    parser.add_argument("--out", type=Path, default=Path("dist"))
    options = parser.parse_args()
    weights = options.weights if options.weights.is_file() else None
    if weights is None:
        print(f"{options.weights}: there is no such file; the zip contains no weights, which the zoo requires")
    path = build(options.out, weights, options.url)
    print(path)
    for line in check(path, options.schema):
        print(f"  {line}")


def build(out: Path, weights: Path | None, url: str | None = None) -> Path:
    """Write the zip, named after the bundle and its version.

    Args:
        out: folder for it.
        weights: a ``model.pt`` of a training; None for a zip without.
        url: where the weights will be downloaded from.

    Raises:
        InputError: the metadata does not describe the weights.
    """
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in (path for pattern in SENT for path in BUNDLE.glob(pattern)):
            (folder / path.relative_to(BUNDLE)).parent.mkdir(exist_ok=True)
            shutil.copy(path, folder / path.relative_to(BUNDLE))
        if weights is not None:
            _, record = load_weights(weights)
            compare(metadata, record)
            write_training(folder / "configs" / "train.json", record)
            (folder / WEIGHTS).parent.mkdir()
            save_plain(weights, folder / WEIGHTS)
            if url is not None:
                write_large_files(folder, url)
                shutil.move(folder / WEIGHTS, out / WEIGHTS.name)
            elif (folder / WEIGHTS).stat().st_size > LARGEST:
                raise InputError(
                    f"{weights}: is larger than the zoo's {LARGEST >> 20} MB; publish it elsewhere, and give --url"
                )
        zipped = out / f"{NAME}_v{metadata['version']}.zip"
        with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                entry = zipfile.ZipInfo(f"{NAME}/{path.relative_to(folder).as_posix()}", LONG_AGO)
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())
    return zipped


def write_training(path: Path, record: Record) -> None:
    """Write the record's network, crappifier, scale and frames into ``train.json``; references to other ids stay."""
    config = json.loads(path.read_text())
    for part, recorded in (("network_def", record.network), ("crappifier", record.crappifier)):
        kept = {key: value for key, value in config[part].items() if str(value).startswith("@")}
        config[part] = {key: kept.get(key, value) for key, value in (dotted(recorded) or config[part]).items()}
    config["scale"] = record.scale
    config["n_frames"] = record.n_frames[0] if len(set(record.n_frames)) == 1 else list(record.n_frames)
    path.write_text(json.dumps(config, indent=4) + "\n")


def dotted(recorded: Any) -> Any:
    """Return a recorded network or crappifier with the package before its registered names, as configs write them."""
    if isinstance(recorded, list):
        return [dotted(value) for value in recorded]
    if not isinstance(recorded, dict):
        return recorded
    content = {key: dotted(value) for key, value in recorded.items()}
    name = content.get("_target_")
    return content | {"_target_": f"pssr2_monai.{name}"} if hasattr(pssr2_monai, str(name)) else content


def compare(metadata: dict[str, Any], record: Record) -> None:
    """Check that the metadata describes the weights."""
    form = metadata["network_data_format"]
    channels = tuple(form[end][name]["num_channels"] for end, name in (("inputs", "image"), ("outputs", "pred")))
    if channels != tuple(record.n_frames):
        raise InputError(f"metadata.json: num_channels {channels}, but the frames of the weights are {record.n_frames}")
    size = form["outputs"]["pred"]["spatial_shape"][-1]
    if size != f"{record.scale} * (n + 7)":
        raise InputError(
            f"metadata.json: spatial_shape {size!r} of the output is not the weights' {record.scale} times"
        )


def write_large_files(folder: Path, url: str) -> None:
    """Write the weights' address and hash into ``large_files.yml``."""
    hashed = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    lines = ["large_files:", f'- path: "{WEIGHTS.as_posix()}"', f'  url: "{url}"']
    lines += [f'  hash_val: "{hashed}"', '  hash_type: "sha256"', ""]
    (folder / "large_files.yml").write_text("\n".join(lines))


def check(zipped: Path, schema: Path | None = None) -> list[str]:
    """Unpack the zip elsewhere, run there what the zoo's continuous integration runs, and return what was checked.

    Without weights in the zip, the checks that need them are left out.
    """
    zipped, schema = zipped.resolve(), schema and schema.resolve()
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        with zipfile.ZipFile(zipped) as archive:
            archive.extractall()
        root = Path(name) / NAME
        meta, configs = str(root / "configs" / "metadata.json"), root / "configs"
        (root / "eval").mkdir()
        if schema is not None:
            shutil.copy(schema, root / "eval" / "schema.json")  # so that it is not downloaded
        verify_metadata(meta_file=meta, filepath=str(root / "eval" / "schema.json"))
        done = ["verify_metadata: follows MONAI's schema"]
        write_images(root / "data")
        run(root, ["train"], epochs=1, tile=32, num_workers=0, ckpt_dir=f"{name}/new", output_dir=f"{name}/out")
        new = {"weights": f"{name}/new/model.pt", "output_dir": f"{name}/out"}
        run(root, ["train", "evaluate"], tile=32, num_workers=0, **new)
        done.append("train, evaluate: run, with all properties")
        if (root / WEIGHTS).is_file():
            inference, weights = str(configs / "inference.json"), str(root / WEIGHTS)
            verify_net_in_out("network_def", meta, inference, bundle_root=str(root), device="cpu")
            script = str(root / "models" / "verify_model.ts")
            ckpt_export("network_def", script, weights, meta, inference, bundle_root=str(root))
            image = torch.rand(1, 1, 24, 40, generator=torch.Generator().manual_seed(0))
            network, _ = load_weights(weights)
            loaded = load(NAME, bundle_dir=name, device="cpu").eval()
            with torch.inference_mode():
                for exported in (torch.jit.load(script), loaded):
                    torch.testing.assert_close(exported(image), network(image), rtol=0, atol=1e-5)
            run(root, ["inference"], output_dir=f"{name}/restored")
            done.append("verify_net_in_out, ckpt_export, monai.bundle.load, inference: run, and give the same")
    return done


def write_images(folder: Path) -> None:
    """Write images to run the configs on."""
    folder.mkdir()
    for number in range(5):
        noise = np.random.default_rng(number).normal(size=(96, 112))
        texture = gaussian_filter(noise, 2)
        grey = 128 + 100 * texture / np.abs(texture).max()
        Image.fromarray(grey.round().astype(np.uint8)).save(folder / f"image_{number}.png")


def run(root: Path, configs: list[str], **overrides: Any) -> None:
    """Run configs of the bundle as the zoo's tests do, after checking that all properties exist."""
    workflow = create_workflow(
        config_file=[str(root / "configs" / f"{config}.json") for config in configs],
        meta_file=str(root / "configs" / "metadata.json"),
        logging_file=str(root / "configs" / "logging.conf"),
        workflow_type="infer" if configs == ["inference"] else "train",
        bundle_root=str(root),
        **overrides,
    )
    wrong = workflow.check_properties()
    if wrong:
        raise InputError(f"{configs[-1]}.json: lacks, or misplaces, {', '.join(wrong)}")
    workflow.run()
    workflow.finalize()


if __name__ == "__main__":
    main()
