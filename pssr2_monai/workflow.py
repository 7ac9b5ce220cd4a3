"""The bundle's training, run from Python with checked overrides: what the commands and the plugin call."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from pssr2_monai.checkpoints import BEST, LAST
from pssr2_monai.errors import InputError
from pssr2_monai.presets import bundle_dir, check_overrides, config_files

__all__ = ["train"]

UNLIMITED_EPOCHS = 1_000_000

logger = logging.getLogger(__name__)


def train(
    data: str | Path,
    out: str | Path,
    *,
    preset: str | Sequence[str] | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    resume: bool = False,
    **overrides: Any,
) -> Path:
    """Trains a network on a folder of high-resolution images.

    Args:
        data: the folder of images.
        out: folder for the weights (``model.pt``, ``last.pt``), the merged config and the TensorBoard files.
        preset: presets laid over the bundle's training config, in turn.
        epochs: how long to train; with ``minutes`` alone there is no bound of epochs.
        minutes: stop after so many minutes.
        resume: go on from ``last.pt`` in ``out``.
        **overrides: any other id of the config; nested ones as ``"train#dataloader#batch_size"``.

    Returns:
        The best weights, ``model.pt``.

    Raises:
        InputError: before any work, for a folder without images, an unknown preset or id, an ``out`` that holds a
            training already, or nothing to resume; later, for images that cannot be read or tiled.

    Example:
        >>> train("images", "run", minutes=10, tile=96)  # doctest: +SKIP
    """
    out = Path(out)
    files = config_files("train", preset)
    check_overrides(files, overrides)
    last = out / LAST
    if resume and not last.is_file():
        raise InputError(
            f"{out}: holds no {LAST} to resume from; train without --resume, or give the folder of that training"
        )
    if not resume and last.exists():
        raise InputError(f"{out}: holds a training already; add --resume to go on with it, or give another folder")
    if epochs is None and minutes is not None:
        epochs = UNLIMITED_EPOCHS
    chosen = {
        "bundle_root": str(bundle_dir()),
        "dataset_dir": str(data),
        "output_dir": str(out),
        "ckpt_dir": str(out),
        "epochs": epochs,
        "minutes": minutes,
        "resume": str(last) if resume else None,
    }
    overrides |= {key: value for key, value in chosen.items() if value is not None}
    workflow = ConfigWorkflow(
        config_file=files,
        meta_file=str(bundle_dir() / "configs" / "metadata.json"),
        logging_file=False,
        init_id="initialize",
        run_id="training",
        final_id="finalize",
        workflow_type="train",
        **overrides,
    )
    workflow.initialize()
    workflow.parser.get_parsed_content("lists")  # reads every image's header: what is wrong with one is told now
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(workflow.parser.get(), indent=4), encoding="utf-8")
    workflow.run()
    workflow.finalize()
    return out / BEST
