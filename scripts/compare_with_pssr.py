"""Whether this package gives the same images as the original `pssr` 2.4.0, from the same random weights.

Creates an environment for that package (its dependencies conflict with this package's), where it saves random weights
of its five architectures with images and outputs (`pssr_cases.py`); reads them with `load_pssr2` and prints the largest
difference in grey levels. The exit status is 1 if one is above a thousandth of a level, or a parameter count differs.
The environment takes up to 6 GB with the CUDA build of torch that pip prefers on Linux; with
PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu in the environment it takes 1.5 GB.

    python scripts/compare_with_pssr.py                      # creates build/pssr-2.4.0 the first time
    python scripts/compare_with_pssr.py --python OTHER/bin/python --settings tiny small
    python scripts/compare_with_pssr.py --settings tiny --keep tests/networks/pssr2_cases   # renews the tests' numbers
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pssr2_monai.networks import load_pssr2

VERSION = "2.4.0"
TOLERANCE = 1e-3
ROOT = Path(__file__).resolve().parents[1]


def original_python(folder: Path) -> Path:
    """Return the Python of an environment with the original package, created in `folder` unless it exists."""
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        print(f"installing pssr {VERSION} into {folder} ...", flush=True)
        venv.create(folder, with_pip=True)
    known = "import importlib.metadata as m, sys; sys.exit(m.version('pssr') != sys.argv[1])"
    if subprocess.run([python, "-I", "-c", known, VERSION], capture_output=True, check=False).returncode:
        # torch is left to pip: torchvision, which timm needs, must be of the same build.
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"pssr=={VERSION}"], check=True)
    return python


def keep(case: dict[str, Any], cases: Path, folder: Path) -> None:
    """Write one case as a single file of numbers: its tensors, image, output and options."""
    tensors = torch.load(cases / f"{case['name']}.pth", weights_only=True)
    arrays = {f"tensor:{name}": tensor.numpy() for name, tensor in tensors.items()}
    with np.load(cases / f"{case['name']}.npz") as numbers:
        arrays |= {key: numbers[key] for key in ("image", "output")}
    arrays["case"] = np.array(json.dumps({key: case[key] for key in ("class", "options", "parameters")}))
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{case['name']}.npz", **arrays)


@torch.no_grad()
def compare(case: dict[str, Any], cases: Path) -> tuple[float, int]:
    """Return the largest difference in grey levels, and the number of parameters here."""
    network, _ = load_pssr2(cases / f"{case['name']}.pth", **case["options"])
    with np.load(cases / f"{case['name']}.npz") as numbers:
        ours = network(torch.from_numpy(numbers["image"]).float() / 255).numpy() * 255
        difference = float(np.abs(ours - numbers["output"]).max())
    return difference, sum(parameter.numel() for parameter in network.parameters())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, default=ROOT / "build" / f"pssr-{VERSION}")
    parser.add_argument("--python", type=Path, help="a Python that has the original package; no environment is created")
    parser.add_argument(
        "--settings", nargs="+", choices=["tiny", "small", "default"], default=["tiny", "small", "default"]
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="also write each case there as one .npz")
    options = parser.parse_args()
    python = options.python or original_python(options.environment)
    worst = 0.0
    same_size = True
    with tempfile.TemporaryDirectory() as folder:
        cases = Path(folder)
        cases_script = Path(__file__).with_name("pssr_cases.py")
        subprocess.run([python, cases_script, cases, "--settings", *options.settings], check=True)
        print(f"| {'case':20} | {'class':10} | {'parameters':>11} | {'ours':>11} | {'largest difference':>18} |")
        print(f"|{'-' * 22}|{'-' * 12}|{'-' * 12}:|{'-' * 12}:|{'-' * 19}:|")
        for case in json.loads((cases / "cases.json").read_text()):
            difference, count = compare(case, cases)
            print(
                f"| {case['name']:20} | {case['class']:10} | {case['parameters']:11,} | {count:11,} "
                f"| {difference:18.2e} |",
                flush=True,
            )
            worst = max(worst, difference)
            same_size &= count == case["parameters"]
            if options.keep:
                keep(case, cases, options.keep)
    print(f"largest difference {worst:.2e} grey levels of 255; {TOLERANCE:.0e} is allowed")
    return 0 if worst <= TOLERANCE and same_size else 1


if __name__ == "__main__":
    raise SystemExit(main())
