"""The bundle's training with checked overrides, and its plan: what the commands and the plugin call."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow

from pssr2_monai.bundle import TEXT, bundle_dir
from pssr2_monai.errors import InputError, UsageError, causes
from pssr2_monai.images.files import list_images
from pssr2_monai.machine import default_device, devices
from pssr2_monai.networks.precision import choose_precision
from pssr2_monai.training.checkpoints import BEST, LAST
from pssr2_monai.training.config import MACHINERY, check_overrides, config_files, read_config
from pssr2_monai.training.handlers import UNLIMITED_EPOCHS
from pssr2_monai.training.live import LiveTraining
from pssr2_monai.training.run_folder import CONFIG, TENSORBOARD, RunFolder
from pssr2_monai.training.run_record import RUN, image_hashes, read_run, report_differences, run_record
from pssr2_monai.training.start import check_fit, with_settings

# MONAI warns that presets lie in another folder than the bundle, and that no logging file is read: both are meant so.
# It sets this logger's level and handler by itself; a filter stays.
logging.getLogger(ConfigWorkflow.__module__).addFilter(lambda record: record.levelno != logging.WARNING)
logger = logging.getLogger(__name__)
# Ids that may change in a resumed training; all others stay what they were at its start.
RESUMABLE = MACHINERY - {"skip_bad"} | {"cache_mb", "device", "epochs", "minutes", "patience"}
RESUMABLE |= {"extra_dir", "hr_dir", "lr_dir", "masks"}  # of other images
LIVE_IDS = ("train#trainer", "validate#evaluator", "schedule", "supervision")  # of the arguments of LiveTraining.attach


def train(
    data: str | Path,
    out: str | Path,
    *,
    preset: str | Sequence[str] | None = None,
    scans: str | Path | None = None,
    start: str | Path | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    resume: bool = False,
    repeat: str | Path | None = None,
    trust: bool = False,
    live: LiveTraining | None = None,
    **overrides: Any,
) -> Path:
    """Train a network on a folder of high-resolution images.

    Args:
        data: folder of high-resolution images.
        out: folder for the weights (``model.pt``), the state to resume from (``last.pt``), the merged config, a record
            of all that the training depends on (``run.json``) and the TensorBoard files.
        preset: presets merged over the training config, in turn: names or JSON files; in a string, separated by commas.
        scans: folder of noisy scans that are to be restored: contrast and noises are fitted to them and written into
            ``out`` (``scans.json``, with report and picture).
        start: weights to start from instead of random ones: a file, or bundled weights by their name, such as ``em``.
            Scale, frames, network, crappifier and a lower learning rate then come from them, unless presets or options
            set them.
        epochs: how long to train; with ``minutes`` alone, without limit.
        minutes: stop after so many minutes, including those before an interruption.
        resume: resume the training in ``out`` from its ``last.pt``, with its own config, on ``data``; to the end that
            it was started with, or to other ``epochs`` or ``minutes``.
        repeat: the ``run.json`` of an earlier training: train with its config again, and report which images,
            versions and devices are others now. On the same ones, a training that epochs ended gives the same weights.
        trust: let preset files, and the config of a resumed or repeated training, hold expressions and classes that are
            not registered: they are then programs.
        live: shows the training meanwhile, and can stop it.
        **overrides: any other id of the config: ``scale``, ``tile``, ``batch_size``, ``lr``, ``seed``; nested ones as
            ``"train#dataloader#batch_size"``.

    Returns:
        The best weights, ``model.pt``.

    Raises:
        InputError: before any work, for a folder without images, an unknown preset or id, an ``out`` that holds a
            training already, cannot be written to or belongs to another running training, nothing to resume, a device
            that the machine has not, images that cannot be read or tiled, or weights to start from that do not fit.

    Example:
        >>> train("images", "run", epochs=1, tile=96, batch_size=4).name
        'model.pt'
    """
    out = Path(out).absolute()
    overrides |= {name: value for name, value in {"scans": scans, "start": start}.items() if value is not None}
    options: dict[str, Any] = {"preset": preset, "epochs": epochs, "minutes": minutes, "resume": resume}
    workflow = training_workflow(data, out, **options, repeat=repeat, trust=trust, **overrides)
    _run(workflow, live, None if repeat is None else read_run(repeat, trust))
    return out / BEST


def _run(workflow: ConfigWorkflow, live: LiveTraining | None, earlier: Mapping[str, Any] | None = None) -> None:
    parts, config = workflow.parser.get_parsed_content, workflow.parser.get()
    with plain_errors(), ExitStack() as held:
        workflow.initialize()
        held.callback((folder := parts("run_folder")).release)
        folder.take()
        lists = parts("lists")  # reads every image's header, so that errors come before any work
        sheets = [sheet.files for tiles in (lists.training, lists.validation) for sheet in tiles.sheets]
        record = run_record(config, parts("device"))
        if earlier is not None:
            record["images"] = image_hashes(sheets)
            report_differences(earlier, record)
        trainer = parts("train#trainer")
        # After the state was loaded: a training that cannot be resumed keeps its config.
        trainer.add_event_handler(Events.STARTED, lambda _: folder.write(record))
        if earlier is None:
            _hash_beside(trainer, record, sheets, folder)
        if live is not None:
            live.attach(*map(parts, LIVE_IDS))
        workflow.run()
        workflow.finalize()


def _hash_beside(
    trainer: Engine, record: dict[str, Any], sheets: Sequence[Mapping[str, str]], folder: RunFolder
) -> None:
    """Hash the images, which may take minutes, while the network trains, and write the record again with them."""

    def hash_all() -> None:
        try:
            record["images"] = image_hashes(sheets)
            folder.write(record)
        except OSError as error:
            logger.warning("%s: without the hashes of the images: %s", RUN, error)

    hashing = Thread(target=hash_all, daemon=True)

    def start(_: Engine) -> None:  # after the first step, and after the loader's processes were forked
        if hashing.ident is None:
            hashing.start()

    def end(engine: Engine) -> None:
        start(engine)
        hashing.join()

    trainer.add_event_handler(Events.ITERATION_COMPLETED, start)
    trainer.add_event_handler(Events.COMPLETED, end)


def training_workflow(
    data: str | Path,
    out: Path,
    *,
    preset: str | Sequence[str] | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    resume: bool = False,
    repeat: str | Path | None = None,
    trust: bool = False,
    **overrides: Any,
) -> ConfigWorkflow:
    """Set everything that ``train`` was given in the bundle's training; nothing is read or built yet."""
    _check_paths({"data": data, "out": out})
    overrides = text_as_strings(overrides)
    if overrides.get("scans") is not None:
        overrides["scans"] = str(Path(overrides["scans"]).absolute())
        list_images(overrides["scans"])
    _check_bounds(epochs, minutes)
    if resume and repeat is not None:
        raise UsageError("repeat: a training is resumed or repeated; leave one of them out")
    files: list[str] = []
    if resume:
        files = _files_to_resume(out, preset, overrides, trust)
    elif (out / LAST).is_file():
        raise InputError(f"{out}: holds a training already; add --resume to resume it, or give another folder")
    elif repeat is None:
        files = config_files("train", preset, trust)
    else:
        _check_unchanged(preset, overrides, "repeated")
        overrides["start_settings"] = False  # the recorded config has them
    if "device" in overrides and str(overrides["device"])[:1] not in tuple("$@%"):
        overrides["device"] = _device(str(overrides["device"]))
    if epochs is None and minutes is not None:
        epochs = UNLIMITED_EPOCHS
    chosen: dict[str, Any] = {
        "bundle_root": str(bundle_dir()),
        "dataset_dir": str(Path(data).absolute()),
        "output_dir": str(out),
        "ckpt_dir": str(out),
        "epochs": epochs,
        "minutes": minutes,
        "resume": str(out / LAST) if resume else None,
    }
    if "calibration" not in overrides:
        chosen["calibration"] = _calibration_picture(files)
    ends = {"minutes": None} if resume and epochs is not None and minutes is None else {}
    overrides |= ends | {key: value for key, value in chosen.items() if value is not None}
    recorded = _recorded_config(repeat, trust)
    with plain_errors(), recorded as config, with_settings(files or config, overrides) as merged:
        check_overrides(merged, overrides)
        metadata = str(bundle_dir() / "configs" / "metadata.json")
        steps = {"init_id": "initialize", "run_id": "training", "final_id": "finalize", "workflow_type": "train"}
        workflow = ConfigWorkflow(merged, meta_file=metadata, logging_file=False, **steps, **overrides)
        check_fit(workflow.parser)
    return workflow


def _calibration_picture(files: Sequence[str]) -> str | None:
    """The picture of the last of the presets that a calibration has written."""
    calibrated = [Path(file) for file in files if Path(file).with_suffix(".report.json").is_file()]
    return str(calibrated[-1].with_suffix(".png")) if calibrated else None


def _check_bounds(epochs: int | None, minutes: float | None) -> None:
    if (minutes is not None and minutes <= 0) or (epochs is not None and epochs < 1):
        bounds = {"minutes": minutes, "epochs": epochs}
        listed = ", ".join(f"{name} {value:g}" for name, value in bounds.items() if value is not None)
        raise UsageError(f"{listed}: a training takes more than 0 minutes and at least 1 epoch")


def _device(name: str) -> str:
    if name not in {*devices(), default_device()}:
        raise UsageError(f"device: {name}: this machine has no such device; it has {', '.join(devices())}")
    return name


def text_as_strings(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides whose text ids have strings, though they may look like numbers."""
    strings = {key: str(value) for key, value in overrides.items() if key in TEXT and value is not None}
    _check_paths(strings)
    return {**overrides, **strings}


def _check_paths(paths: Mapping[str, str | Path]) -> None:
    for name, path in paths.items():
        if "#" in str(path) or "::" in str(path):
            raise InputError(f"{name}: {path}: '#' and '::' divide the ids of a MONAI config; rename the folder")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise the InputError that MONAI has wrapped in errors of its own."""
    try:
        yield
    except RuntimeError as error:
        cause = next((cause for cause in causes(error) if isinstance(cause, InputError)), None)
        if cause is None:
            raise
        raise cause from error


def _files_to_resume(
    out: Path, preset: str | Sequence[str] | None, overrides: Mapping[str, Any], trust: bool
) -> list[str]:
    if not (out / LAST).is_file() or not (out / CONFIG).is_file():
        raise InputError(
            f"{out}: holds no {LAST} to resume from; train without --resume, or give that training's folder"
        )
    _check_unchanged(preset, overrides, "resumed")
    read_config(out / CONFIG, trust)
    return [str(out / CONFIG)]


def _check_unchanged(preset: str | Sequence[str] | None, overrides: Mapping[str, Any], how: str) -> None:
    changed = sorted(overrides.keys() - RESUMABLE) + (["preset"] if preset else [])
    if changed:
        raise InputError(
            f"--{changed[0]}: a {how} training keeps what it was started with; leave it out "
            f"({', '.join(sorted(RESUMABLE))} may change), or start another training"
        )


@contextmanager
def _recorded_config(repeat: str | Path | None, trust: bool) -> Iterator[list[str]]:
    """The config of an earlier training as a file, which is what MONAI reads."""
    with TemporaryDirectory(prefix="pssr2-repeat") as folder:
        file = Path(folder) / CONFIG
        if repeat is not None:
            file.write_text(json.dumps(read_run(repeat, trust)["config"]), encoding="utf-8")
        yield [str(file)]


@dataclass(frozen=True)
class TrainingPlan:
    """What ``train`` with the same arguments would do."""

    images: tuple[Path, ...]
    training_tiles: int
    validation_tiles: int
    tile: int  # side in HR pixels
    batch_size: int
    steps: int  # of an epoch
    epochs: int | None  # None where only the minutes end the training
    minutes: float | None  # None where only the epochs end it
    network: str  # dotted name
    parameters: int  # their number
    scale: int | Sequence[int]
    device: str
    precision: str
    outputs: tuple[Path, ...]
    config: dict[str, Any]  # with presets and overrides

    def __str__(self) -> str:
        ends = [f"{end:g} {unit}" for end, unit in ((self.epochs, "epochs"), (self.minutes, "minutes")) if end]
        lines = {
            "images": f"{len(self.images)} in {self.images[0].parent}",
            "tiles": f"{self.training_tiles} to train on, {self.validation_tiles} to validate, {self.tile} px wide",
            "steps": f"{self.steps} an epoch, {self.batch_size} tiles each",
            "ends after": " or ".join(ends),
            "network": f"{self.network}, {self.parameters:,} parameters, scale {self.scale}",
            "device": f"{self.device}, {self.precision}",
            "writes": ", ".join(map(str, self.outputs)),
        }
        plan = "\n".join(f"{name:12}{value}" for name, value in lines.items())
        return f"{json.dumps(self.config, indent=4, default=str)}\n\n{plan}"


def plan_training(data: str | Path, out: str | Path, **options: Any) -> TrainingPlan:
    """Plan a training with the options of ``train``: the images' headers are read, nothing is written.

    Example:
        >>> plan = plan_training("images", "run", epochs=2, tile=32, batch_size=8)
        >>> len(plan.images), plan.steps
        (5, 18)
    """
    out = Path(out).absolute()
    parser = training_workflow(data, out, **options).parser
    with plain_errors():
        lists, device, network = (parser.get_parsed_content(name) for name in ("lists", "device", "network_def"))
        settings = {name: parser.get_parsed_content(name) for name in ("batch_size", "minutes", "scale")}
        epochs, precision = (parser.get_parsed_content(name) for name in ("epochs", "precision"))
    files = dict.fromkeys((*lists.training.files, *lists.validation.files))
    return TrainingPlan(
        images=tuple(map(Path, files)),
        training_tiles=len(lists.training),
        validation_tiles=len(lists.validation),
        tile=parser.get_parsed_content("tiles").tile,
        steps=math.ceil(len(lists.training) / settings["batch_size"]),
        epochs=None if epochs >= UNLIMITED_EPOCHS else epochs,
        network=f"{type(network).__module__}.{type(network).__qualname__}",
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        device=str(device),
        precision=str(choose_precision(precision, device)).removeprefix("torch."),
        outputs=tuple(out / name for name in (BEST, LAST, CONFIG, RUN, TENSORBOARD)),
        config=parser.get(),
        **settings,
    )
