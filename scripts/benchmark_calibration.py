"""Errors of calibration on noise with known parameters, and its cost, compared with the original package.

    python scripts/benchmark_calibration.py IMAGES... --pssr-python ENV/bin/python --json calibration.json

IMAGES are files or folders of HR images. Tiles of 512 x 512 are cut from them, shrunk 4x by PIL, given noise by numpy,
rounded and clipped, so that the parameters are known. Both packages get the same pairs and the same number of trials;
the original is ``approximate_crappifier`` of pssr 2.4.0, with ranges like those of its notebook. Each calibration runs
in a process of its own, whose imports are not timed; the time of this package includes reading the files and writing
the preset.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

OURS, ORIGINAL = "pssr2_monai", "pssr 2.4.0"
SIDE, SCALE = 512, 4
GAIN_TOLERANCE = 0.5


@dataclass(frozen=True)
class Case:
    """Noise with known parameters; ``gain`` is what PSSR2 calls an offset."""

    model: str
    truth: dict[str, float]


CASES = {
    "Poisson": Case("poisson", {"poisson": 0.7, "gain": 0.0}),
    "Poisson with gain": Case("poisson", {"poisson": 0.7, "gain": 5.0}),
    "Gaussian": Case("gaussian", {"gaussian": 13.0, "gain": 0.0}),
    "Gaussian with gain": Case("gaussian", {"gaussian": 13.0, "gain": -8.0}),
    "Poisson and Gaussian": Case("poisson+gaussian", {"poisson": 0.7, "gaussian": 13.0, "gain": 0.0}),
    "Poisson and line": Case("poisson+line", {"poisson": 0.7, "line": 4.0, "gain": 0.0}),
}
SPACES = {"poisson": (0.0, 3.0), "gaussian": (0.0, 50.0), "gain": (-20.0, 20.0)}


def tiles(paths: list[Path]) -> Iterator[np.ndarray]:
    """HR tiles of the images."""
    for path in paths:
        files = sorted(file for file in path.iterdir() if file.suffix in (".png", ".tif")) if path.is_dir() else [path]
        for file in files:
            image = np.asarray(Image.open(file).convert("L"))
            for top in range(0, image.shape[0] - SIDE + 1, SIDE):
                for left in range(0, image.shape[1] - SIDE + 1, SIDE):
                    yield image[top : top + SIDE, left : left + SIDE]


def noisy(clean: np.ndarray, truth: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """An LR image, as a file would hold it."""
    grey = clean.astype(float)
    if "poisson" in truth:
        grey = grey * (1 - truth["poisson"]) + rng.poisson(grey) * truth["poisson"]
    grey += rng.normal(0, truth.get("gaussian", 0.0), grey.shape) + truth["gain"]
    grey += rng.normal(0, truth.get("line", 0.0), (len(grey), 1))
    return np.clip(np.round(grey), 0, 255).astype(np.uint8)


def write_pairs(folder: Path, hr: list[np.ndarray], truth: dict[str, float], seed: int) -> None:
    """Files of HR and LR images."""
    rng = np.random.default_rng(seed)
    for name in ("HR", "LR"):
        (folder / name).mkdir(exist_ok=True)
    for number, tile in enumerate(hr):
        clean = np.asarray(Image.fromarray(tile).resize((SIDE // SCALE,) * 2, Image.Resampling.BILINEAR))
        Image.fromarray(tile).save(folder / "HR" / f"{number:03}.png", compress_level=1)
        Image.fromarray(noisy(clean, truth, rng)).save(folder / "LR" / f"{number:03}.png", compress_level=1)


def ours(folder: Path, case: Case, calls: int, seed: int) -> Callable[[], dict[str, Any]]:
    """This package's calibration."""
    from pssr2_monai.calibration.calibrate import calibrate

    def run() -> dict[str, Any]:
        calibration = calibrate(
            folder / "LR",
            folder / "preset.json",
            hr=folder / "HR",
            model=case.model,
            calls=calls,
            seed=seed,
            register="none",  # the pairs are aligned, and the original does not register either
        )
        assert calibration.offset is not None
        values = calibration.values | {"gain": calibration.offset[1]}
        return {"values": values, "errors": calibration.errors, "trials": calibration.trials}

    return run


def original(folder: Path, case: Case, calls: int, seed: int) -> Callable[[], dict[str, Any]]:
    """The original's; it has no line noise."""
    from pssr.crappifiers import AdditiveGaussian, MultiCrappifier, Poisson
    from pssr.train import approximate_crappifier
    from skopt.space import Real

    names = [name for name in case.truth if name in SPACES]
    pairs = []
    for file in sorted((folder / "HR").iterdir()):
        images = [np.asarray(Image.open(folder / name / file.name))[None] for name in ("HR", "LR")]
        pairs.append((images[0], images[1]))

    def crappifier(*values: float) -> Any:
        at = dict(zip(names, values, strict=True))
        if "gaussian" not in at:
            return Poisson(at["poisson"], at["gain"])
        if "poisson" not in at:
            return AdditiveGaussian(at["gaussian"], at["gain"])
        return MultiCrappifier(Poisson(at["poisson"]), AdditiveGaussian(at["gaussian"], at["gain"]))

    def run() -> dict[str, Any]:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  the original draws from the global state
        space = [Real(*SPACES[name]) for name in names]
        result = approximate_crappifier(crappifier, space, pairs, opt_kwargs={"n_calls": calls, "random_state": seed})
        return {"values": dict(zip(names, map(float, result.x), strict=True)), "trials": len(result.func_vals)}

    return run


def work(options: argparse.Namespace) -> None:
    """One calibration in this process; its result is the last line of standard output."""
    make = ours if options.worker == OURS else original
    run = make(options.folder, CASES[options.case], options.calls, options.seed)
    cpu, wall = time.process_time(), time.perf_counter()
    result = run()
    print(json.dumps(result | {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}), flush=True)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All cases and seeds, the rivals in turn."""
    pythons = {OURS: sys.executable} | ({ORIGINAL: options.pssr_python} if options.pssr_python else {})
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": "passive"}
    hr = list(tiles(options.images))
    if not hr:
        sys.exit(f"no image of {SIDE} x {SIDE} pixels or more in {', '.join(map(str, options.images))}")
    results: dict[str, dict[str, list[Any]]] = {
        name: {rival: [] for rival in pythons} for name in options.only or CASES
    }
    for name in results:
        case = CASES[name]
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                write_pairs(Path(folder), hr, case.truth, 1000 + seed)
                for rival, python in pythons.items():
                    command = [python, str(Path(__file__).resolve()), "--worker", rival, "--folder", folder]
                    command += ["--case", name, "--calls", str(options.calls), "--seed", str(seed)]
                    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
                    if done.returncode:
                        sys.exit(f"{rival}: its process failed; its message is above")
                    results[name][rival].append(json.loads(done.stdout.splitlines()[-1]))
                    print(f"{name}, seed {seed}, {rival}: {results[name][rival][-1]}", file=sys.stderr)
    settings = {"pairs": len(hr), "calls": options.calls, "seeds": options.seeds, "threads": options.threads}
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    truths = {name: CASES[name].truth for name in results}
    return {"settings": settings, "machine": machine, "truth": truths, "results": results}


def error(parameter: str, value: float, truth: float) -> float:
    """Percent; grey levels for the gain."""
    return value - truth if parameter == "gain" else 100 * (value / truth - 1)


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    settings = result["settings"]
    lines = [
        f"{settings['pairs']} pairs, {settings['calls']} trials at most, {settings['seeds']} seeds; errors in % of the "
        "truth, of the gain in grey levels",
        "",
        "| noise | parameter | truth | package | error for each seed | greatest | trials | CPU s | wall s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rivals in result["results"].items():
        for parameter, truth in result["truth"][name].items():
            for rival, runs in rivals.items():
                if parameter not in runs[0]["values"]:
                    lines.append(f"| {name} | {parameter} | {truth:g} | {rival} | has none | | | | |")
                    continue
                errors = [error(parameter, run["values"][parameter], truth) for run in runs]
                trials = "/".join(str(run["trials"]) for run in runs)
                cpu, wall = (statistics.median(run[clock] for run in runs) for clock in ("cpu", "wall"))
                shown = ", ".join(f"{value:+.1f}" for value in errors)
                lines.append(
                    f"| {name} | {parameter} | {truth:g} | {rival} | {shown} | "
                    f"{max(map(abs, errors)):.2f} | {trials} | {cpu:.1f} | {wall:.1f} |"
                )
    return "\n".join([*lines, "", *totals(result)])


def totals(result: dict[str, Any]) -> list[str]:
    """Ratios over all cases, and the parameters that were missed."""
    missed, errors, seconds = [], {OURS: [], ORIGINAL: []}, []
    for name, rivals in result["results"].items():
        for seed, run in enumerate(rivals[OURS]):
            other = rivals.get(ORIGINAL, [None] * (seed + 1))[seed]
            if other:
                seconds.append((other["cpu"] / run["cpu"], other["wall"] / run["wall"]))
            for parameter, truth in result["truth"][name].items():
                mine = abs(error(parameter, run["values"][parameter], truth))
                if mine > (GAIN_TOLERANCE if parameter == "gain" else 5):
                    missed.append(f"{name} {parameter}, seed {seed}")
                if other and parameter in other["values"] and parameter != "gain":
                    errors[OURS].append(mine)
                    errors[ORIGINAL].append(abs(error(parameter, other["values"][parameter], truth)))
    lines = [f"not within 5 % (gain: {GAIN_TOLERANCE:g}): {', '.join(missed) or 'none'}"]
    if seconds:
        mine, theirs = (statistics.mean(errors[rival]) for rival in (OURS, ORIGINAL))
        cpu, wall = (statistics.median(pair[k] for pair in seconds) for k in (0, 1))
        lines.append(
            f"mean error without gains: {mine:.2f} % against {theirs:.2f} % ({theirs / mine:.1f} times); the original "
            f"takes {cpu:.1f} times the CPU time and {wall:.1f} times the wall time (medians)"
        )
    return lines


def main() -> None:
    """Read the options; measure, or serve as the worker of one rival."""
    parser = argparse.ArgumentParser(description="Errors of calibration on known noise.")
    parser.add_argument("images", nargs="*", type=Path, help="files or folders of HR images")
    parser.add_argument("--only", action="append", choices=list(CASES), help="a case to run; may be repeated")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions, each with new noise")
    parser.add_argument("--calls", type=int, default=40, help="trials, at most")
    parser.add_argument("--threads", type=int, default=1, help="compute threads")
    parser.add_argument("--pssr-python", metavar="PATH", help="a Python that has pssr 2.4.0 installed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure here")
    parser.add_argument("--worker", choices=[OURS, ORIGINAL], help=argparse.SUPPRESS)
    for name, kind in (("folder", Path), ("case", str), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options)
        return
    if not options.images:
        parser.error("name files or folders of HR images")
    result = measure(options)
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
