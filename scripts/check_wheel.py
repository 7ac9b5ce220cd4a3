r"""Build the wheel, install it in a bare environment without extras, and try what a new user would.

    python scripts/check_wheel.py --minutes 0.3

``pssr2 demo`` runs there, and every command that needs an extra must name the pip command that installs it. Run this
before a release; it installs torch anew and takes some ten minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TORCH = "torch==2.13.0"

MODELS = ("model", "em_2x", "em_denoise", "fluo_denoise", "fluo_2x")
"""Bundled weights."""

NEEDED = (
    "pssr2_monai/py.typed",
    "pssr2_monai/bundle/configs/train.json",
    "pssr2_monai/bundle/configs/evaluate.json",
    "pssr2_monai/bundle/configs/inference.json",
    "pssr2_monai/bundle/configs/logging.conf",
    "pssr2_monai/bundle/configs/metadata.json",
    *(f"pssr2_monai/bundle/models/{name}.pt" for name in MODELS),
    "pssr2_monai/configs/resunet_small.json",
    "pssr2_monai/evaluation/report.html",
    "pssr2_monai/export/package_readme.md",
    "pssr2_monai/napari/napari.yaml",
)
"""Files other than code that the package needs."""

LEFT_BEHIND = re.compile(
    rf"/bundle/(eval|data|restored)/|/bundle/models/(?!(?:{'|'.join(MODELS)})\.pt$)|\.part$|__pycache__|^(tests|docs)/"
)
"""What a training or a test leaves in the working tree, and a wheel must not contain."""

EXTRAS = {
    "czi": ("info", "scan.czi"),
    "mrc": ("info", "scan.mrc"),
    "nd2": ("info", "scan.nd2"),
    "lif": ("info", "scan.lif"),
    "openvino": ("restore", "{scans}", "by_openvino", "--weights", "{weights}", "--backend", "openvino"),
    "dask": ("restore", "{scans}", "by_dask", "--weights", "{weights}", "--scheduler", "tcp://127.0.0.1:9"),
    "export": ("export", "{weights}", "model.onnx"),
    "bioimageio": ("export", "{weights}", "model.zip"),
    "napari": ("napari",),
}
"""A command that needs each extra; it writes into the working folder."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=0.3, help="how long the demonstration trains")
    parser.add_argument("--folder", type=Path, help="working folder, which is kept; by default a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        wheel = build(folder / "wheel")
        report(f"{wheel.name}, {wheel.stat().st_size / 2**20:.1f} MB", wrong_content(wheel))
        command = install(wheel, folder / "environment")
        work = folder / "work"
        work.mkdir()
        done = run(command, work, "demo", "--minutes", str(options.minutes), "--out", "demo")
        report("pssr2 demo", [] if done.returncode == 0 else [done.stderr[-2000:]])
        print(done.stdout)
        for extra, wrong in missing_extras(command, work, "demo/scans", "demo/run/model.pt").items():
            report(f"without the extra {extra}", wrong)


def build(folder: Path) -> Path:
    """Build the wheel of the working tree."""
    call([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)])
    (wheel,) = folder.glob("pssr2_monai-*.whl")
    return wheel


def wrong_content(wheel: Path) -> list[str]:
    """Return what the wheel lacks, and what it contains but should not."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    return [f"lacks {name}" for name in NEEDED if name not in names] + [
        f"contains {name}" for name in sorted(names) if LEFT_BEHIND.search(name)
    ]


def install(wheel: Path, environment: Path) -> Path:
    """Install the wheel and its dependencies, at the versions of constraints.txt; return the path of the command."""
    venv.create(environment, with_pip=True)
    programs = environment / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    call([*pip, TORCH])  # first: otherwise it may install gigabytes for GPUs
    call([*pip, "--constraint", str(ROOT / "constraints.txt"), str(wheel)])
    call([str(programs / "python"), "-m", "pip", "check"])
    return programs / "pssr2"


def missing_extras(command: Path, work: Path, scans: str, weights: str) -> dict[str, list[str]]:
    """Return, for each extra, what is wrong with the answer of the command that needs it."""
    for name in ("scan.czi", "scan.mrc", "scan.nd2", "scan.lif"):
        (work / name).write_bytes(b"not an image, but no reader gets to it")
    wrong = {}
    for extra, words in EXTRAS.items():
        done = run(command, work, *(word.format(scans=scans, weights=weights) for word in words))
        wrong[extra] = wrong_answer(extra, done.returncode, done.stderr)
    return wrong


def wrong_answer(extra: str, status: int, message: str) -> list[str]:
    """Return an empty list if a command failed with one line that names the pip command for the extra."""
    lines = message.strip().splitlines()
    named = rf"pip install ['\"]pssr2-monai\[{extra}\]['\"]"
    right = status == 1 and bool(lines) and lines[-1].startswith("pssr2: ") and re.search(named, lines[-1])
    return [] if right else [f"exit status {status}: {lines[-1] if lines else 'there was no message'}"]


def run(command: Path, work: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder of its own, so that it does not import the working tree."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(
        [str(command), *words], cwd=work, env=environment, capture_output=True, text=True, check=False
    )


def call(words: list[str]) -> None:
    """Run a program that must succeed."""
    subprocess.run(words, check=True)


def report(subject: str, wrong: list[str]) -> None:
    """Print that the subject passed, or exit with what is wrong."""
    if wrong:
        sys.exit(f"{subject}: " + "\n".join(wrong))
    print(f"{subject}: passed", flush=True)


if __name__ == "__main__":
    main()
