"""What a training depended on, in ``run.json``: from it the training is repeated, and what differs then is reported."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch

import pssr2_monai
from pssr2_monai.errors import InputError
from pssr2_monai.images.files import files_of_image, first_names
from pssr2_monai.training.preset_check import check_data

RUN = "run.json"
VERSION = 1
SAMPLED_BYTES = 2**28  # of larger files, pieces are hashed
PIECE_BYTES, PIECES = 2**20, 64
ENVIRONMENT = ("versions", "revision", "device", "threads")
logger = logging.getLogger(__name__)


def run_record(config: Mapping[str, Any], device: Any) -> dict[str, Any]:
    """Describe a training that is about to begin, without its images, whose hashes take longer."""
    return {
        "version": VERSION,
        "versions": {
            "pssr2_monai": pssr2_monai.__version__,
            "monai": monai.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "revision": revision(Path(pssr2_monai.__file__).parents[1]),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "seed": config["seed"],
        "images": {},
        "config": {**config, "resume": None},
    }


def image_hashes(files: Iterable[Mapping[str, str | Path]]) -> dict[str, dict[str, str]]:
    """Return the hash of each image by key and name; ``files`` are the paths of each sheet, by key."""
    images: dict[str, dict[str, str]] = {}
    for sheet in files:
        for key, path in sheet.items():
            images.setdefault(key, {})[Path(path).name] = hash_of(Path(path))
    return images


def hash_of(path: Path, sampled_bytes: int = SAMPLED_BYTES) -> str:
    """Return the SHA-256 of an image: of the file, or of all files of a set or a folder with their names.

    Of files above ``sampled_bytes``, the size and pieces that are spread over them are hashed.
    """
    files = sorted(filter(Path.is_file, path.rglob("*"))) if path.is_dir() else files_of_image(path)
    if files == [path]:
        return _hash_of_file(path, sampled_bytes)
    root = path if path.is_dir() else path.parent
    listed = [f"{_hash_of_file(file, sampled_bytes)}  {file.relative_to(root).as_posix()}\n" for file in files]
    return hashlib.sha256("".join(listed).encode()).hexdigest()


def _hash_of_file(path: Path, sampled_bytes: int) -> str:
    size = path.stat().st_size
    with path.open("rb") as content:
        if size <= sampled_bytes:
            return hashlib.file_digest(content, "sha256").hexdigest()
        digest = hashlib.sha256(str(size).encode())
        for number in range(PIECES):
            content.seek(max(0, size - PIECE_BYTES) * number // (PIECES - 1))
            digest.update(content.read(PIECE_BYTES))
    return digest.hexdigest()


def revision(root: Path) -> str | None:
    """Return the git revision of a checkout, ``-dirty`` where files were changed; None where it is not one."""
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def read_run(path: str | Path, trust: bool = False) -> dict[str, Any]:
    """Read a ``run.json`` and check it as a preset is checked: its config is data, unless it is trusted."""
    path = Path(path)
    path = path / RUN if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"repeat: {path}: there is no such file; give the {RUN} of a training") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"repeat: {path}: cannot be read as JSON ({type(error).__name__})") from None
    parts = {"version": int, "versions": dict, "images": dict, "config": dict}
    if not isinstance(content, dict) or any(not isinstance(content.get(name), kind) for name, kind in parts.items()):
        raise InputError(f"repeat: {path}: is not the {RUN} of a training")
    if content["version"] > VERSION:
        raise InputError(f"repeat: {path}: was written by a later release of pssr2-monai; update the package")
    if not trust:
        check_data(path, content["config"])
    return content


def report_differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Log what differs from an earlier training, of images, versions, device and threads; return the lines."""
    lines = image_differences(earlier["images"], now["images"])
    for name in ENVIRONMENT:
        before, after = (_text_by_name(record.get(name), name) for record in (earlier, now))
        lines += [f"{part}: {before.get(part)}, now {text}" for part, text in after.items() if before.get(part) != text]
    for line in lines:
        logger.warning("repeat: %s", line)
    if not lines:
        logger.info("repeat: images, versions, device and threads are those of the earlier training")
    return lines


def image_differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe which images differ, of hashes by name, by key."""
    lines = []
    for key in dict.fromkeys([*earlier, *now]):
        before, after = (_text_by_name(images.get(key)) for images in (earlier, now))
        kinds = {
            "changed": [name for name in before if name in after and before[name] != after[name]],
            "missing": [name for name in before if name not in after],
            "new": [name for name in after if name not in before],
        }
        lines += [f"{key} images {kind}: {first_names(names)}" for kind, names in kinds.items() if names]
    return lines


def _text_by_name(part: Any, name: str = "") -> dict[str, str]:
    return {str(key): str(value) for key, value in part.items()} if isinstance(part, Mapping) else {name: str(part)}
