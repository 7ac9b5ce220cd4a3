"""The verbs of the command ``pssr2``: which function each calls, and what it reports.

Options and help come from those functions (see ``arguments``). Heavy packages are imported inside the verbs, so that
``pssr2 --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pssr2_monai.cli.arguments import Answer, Verb, verb
from pssr2_monai.cli.completion import completion_script
from pssr2_monai.errors import InputError, UsageError


@verb("training.train:train", places="data", example="images/ --out run/ --minutes 15 --scale 4")
def train(*, dry_run: bool = False, **options: Any) -> Answer:
    """
    Args:
        dry_run: report the merged config, tiles, steps, network and the files that would be written; train nothing.
    """
    from pssr2_monai.training.train import plan_training, train

    if dry_run:
        plan = plan_training(**options)
        return Answer(str(plan), plan)
    weights = train(**options)
    files = {"last": "last.pt", "config": "config.json", "record": "run.json", "tensorboard": "tensorboard"}
    paths = {name: Path(options["out"]) / file for name, file in files.items()}
    return Answer(str(weights), {"weights": weights, **paths})


@verb(
    "restoration.restore:restore",
    "restoration.options:RestoreOptions",
    "restoration.watch:watch settle",
    places="source target",
    example="scans/ restored/ --weights run/model.pt",
)
def restore(
    *,
    dry_run: bool = False,
    estimate: bool = False,
    fidelity: bool = False,
    uncertainty: bool = False,
    watch: bool = False,
    **options: Any,
) -> Answer:
    """
    Args:
        dry_run: report which files would be written, their size and the settings; restore nothing.
        estimate: also report memory and time, from a trial of a few windows; write nothing.
        fidelity: report whether each output agrees with its source, and write maps of z-scores next to it.
        uncertainty: restore as the mean over eight orientations and all files of weights, which are then separated by
            commas, and write the spread, NAME_uncertainty, next to it.
        watch: restore images as a microscope writes them into the folder, each when it is complete, until Ctrl-C.
    """
    if watch:
        if dry_run or estimate or fidelity or uncertainty:
            raise InputError("watch: restores alone; leave out dry-run, estimate, fidelity and uncertainty")
        from pssr2_monai.restoration.watch import watch as watch_folder

        return _restored(watch_folder(**options))
    if "settle" in options:
        raise UsageError("settle: is the time for which --watch waits; give both")
    if estimate and uncertainty:
        raise InputError("estimate: counts one pass over each image; uncertainty has eight for each file of weights")
    if options.get("profile") is not None and (estimate or fidelity or uncertainty):
        raise InputError("profile: measures plain restoring; leave out estimate, fidelity and uncertainty")
    weights = options.pop("weights")
    files = weights.split(",") if uncertainty else [weights]
    if dry_run or estimate:
        from pssr2_monai.fidelity.maps import map_outputs
        from pssr2_monai.restoration.plan import plan_restoring

        maps = partial(map_outputs, fidelity=fidelity, uncertainty=uncertainty)
        plan = plan_restoring(weights=files[0], **options, trial=estimate, maps=maps)
        return Answer(plan.table() if estimate else str(plan), plan.data)
    if fidelity or uncertainty:
        from pssr2_monai.fidelity.maps import restore_with_maps

        mapped = restore_with_maps(weights=files, fidelity=fidelity, uncertainty=uncertainty, **options)
        return Answer("\n".join(map(str, mapped)), {"restored": mapped})
    from pssr2_monai.restoration.restore import restore

    return _restored(restore(weights=weights, **options))


def _restored(paths: list[Path]) -> Answer:
    return Answer("\n".join(map(str, paths)), {"restored": [{"path": path} for path in paths]})


@verb(
    "evaluation.evaluate:evaluate",
    "restoration.options:RestoreOptions window overlap precision backend device axes image",
    example="--hr test/ --weights run/model.pt --out evaluation/",
)
def evaluate(**options: Any) -> Answer:
    from pssr2_monai.evaluation.evaluate import evaluate, table

    result = evaluate(**options)
    files = {"report": "report.html", "metrics": "metrics.json", "table": "metrics.csv"}
    paths = {name: Path(options["out"]) / file for name, file in files.items()}
    figures = {name: result[name] for name in ("verdict", "mean", "interval", "against", "settings")}
    return Answer(f"{table(result)}\n{paths['report']}", figures | paths)


@verb(
    "data.datalists:TileSettings tile overlap scale n_frames stack axes image",
    places="file",
    example="stack.ome.tif --n-frames 5",
)
def info(*, file: str, **settings: Any) -> Answer:
    """Report what was understood of an image file, and the tiles that a training would take from it.

    Args:
        file: an image file, or a folder of slices.
    """
    from pssr2_monai.data.datalists import TileSettings
    from pssr2_monai.data.info import describe

    description = describe(file, TileSettings(**settings))
    return Answer(str(description), description)


@verb("calibration.calibrate:calibrate", example="--hr pairs/HR --lr pairs/LR --out scope.json")
def calibrate(**options: Any) -> Answer:
    from pssr2_monai.calibration.calibrate import calibrate, summary

    calibration = calibrate(**options)
    return Answer(summary(calibration), calibration)


@verb("calibration.registration.register:register", example="--hr slow/ --lr fast/ --out pairs/")
def register(**options: Any) -> Answer:
    from pssr2_monai.calibration.registration.register import TABLE, register, summary

    pairs = register(**options)
    return Answer(summary(pairs), {"pairs": pairs, "table": Path(options["out"]) / TABLE})


@verb("training.preview:crappify_images", places="source target", example="images/ crappified/ --scale 4")
def crappify(**options: Any) -> Answer:
    from pssr2_monai.training.preview import crappify_images

    paths = crappify_images(**options)
    return Answer("\n".join(map(str, paths)), {"crappified": [{"path": path} for path in paths]})


@verb("training.preview:preprocess", places="data out", example="images/ tiles/ --limit 20")
def preprocess(**options: Any) -> Answer:
    from pssr2_monai.training.preview import preprocess

    paths = preprocess(**options)
    return Answer(f"{options['out']}: {len(paths)} files", {"tiles": paths})


@verb(
    "export.export:export weights target format",
    "export.grey_levels:PackageSettings",
    places="weights target",
    example="run/model.pt model.onnx",
)
def export(**options: Any) -> Answer:
    """All options but --format describe a BioImage.IO package."""
    from pssr2_monai.export.export import export
    from pssr2_monai.export.grey_levels import PackageSettings

    file = {name: options.pop(name) for name in ("weights", "target", "format") if name in options}
    exported = export(**file, package=PackageSettings(**options) if options else None)
    text = f"{exported.path}: {exported.difference:.1g} grey levels of 255 off at most, at {len(exported.shapes)} sizes"
    return Answer(f"{text}; {exported.takes}" if exported.takes else text, exported)


@verb("networks.weights:convert original target", places="original target", example="weights.pth model.pt")
def convert(
    *,
    dilations: list[Any] | None = None,
    pool_sizes: list[int] | None = None,
    qk_scale: float | None = None,
    scale: int | None = None,
    **files: Any,
) -> Answer:
    """
    Args:
        dilations: a list for each level, where they were not the original's default.
        pool_sizes: a list, where they were not the original's default.
        qk_scale: of a SwinIR, where it was given.
        scale: of a SwinIR with the upsampler pixelshuffledirect.
    """
    from pssr2_monai.networks.weights import convert

    options: dict[str, Any] = {"dilations": dilations, "pool_sizes": pool_sizes, "qk_scale": qk_scale, "scale": scale}
    path = convert(**files, **{name: value for name, value in options.items() if value is not None})
    return Answer(str(path), {"weights": path})


@verb("cli.demo:demonstrate", example="--minutes 3")
def demo(**options: Any) -> Answer:
    from pssr2_monai.cli.demo import demonstrate

    demonstration = demonstrate(**options)
    paths = {name: value for name, value in vars(demonstration).items() if name != "scores"}
    scores = {name: demonstration.scores[name] for name in ("verdict", "mean", "interval", "against")}
    return Answer(str(demonstration), scores | paths)


@verb(example="scan.ome.tif")
def napari(*files: str) -> None:
    """Open napari with windows to train, restore, calibrate and evaluate.

    Args:
        *files: images to open, with their axes and pixel size.
    """
    if find_spec("napari") is None:
        raise InputError("napari: it is not installed; pip install 'pssr2-monai[napari]'")
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")  # the last names one of Qt's own, such as vnc
    if sys.platform == "linux" and not any(map(os.environ.get, screens)):
        raise InputError("napari: there is no screen (DISPLAY is not set); log in with a desktop, or with ssh -X")
    from napari import run

    from pssr2_monai.napari.viewer import open_viewer

    open_viewer(files)
    run()


@verb(places="shell", example="fish > ~/.config/fish/completions/pssr2.fish")
def completion(*, shell: str) -> Answer:
    """Write a script that lets a shell complete verbs, options and presets.

    bash looks for it in ~/.local/share/bash-completion/completions/pssr2 (with the package bash-completion), zsh in a
    file _pssr2 in a folder of $fpath, fish in ~/.config/fish/completions/pssr2.fish.

    Args:
        shell: bash, zsh or fish.
    """
    script = completion_script(shell, list(COMMANDS.values()))
    return Answer(script, {"shell": shell, "script": script})


COMMANDS = {
    command.name: command for command in list(globals().values()) if isinstance(command, Verb)
}  # in the order in which they are listed
