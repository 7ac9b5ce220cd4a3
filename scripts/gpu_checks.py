"""All that a GPU has to show, in ten minutes, as a table of Markdown for docs/gpus.md.

    python scripts/gpu_checks.py --out gpu_checks.md        # on a machine with a GPU
    python scripts/gpu_checks.py --dry-run                  # tiny sizes on the processor, in about a minute

The tests marked ``gpu``; the whole training against its bare step; steps during which the processor waits for the GPU;
restoring from file to file against the bare network, with the peak memory of the GPU; two processes by ``torchrun``
against one. A check that fails is a row that says so, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from benchmark_restore import write_sheet
from ignite.engine import Events

from pssr2_monai.networks.weights import load_weights
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.restore import restore
from pssr2_monai.training.train import training_workflow

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = "em_2x"
SECONDS = 300  # that one check may take
Row = tuple[str, str, str]  # what was measured, the figure, a remark


def run(*words: str, folder: Path | None = None) -> str:
    """Run a command in a folder, by default the repository's; return what it printed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *words]
    process = subprocess.Popen(
        command, cwd=folder or ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        printed, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun then ends the processes that it started
        process.communicate()
        raise RuntimeError(f"{words[1]}: took longer than {SECONDS} s") from None
    if process.returncode:
        raise RuntimeError(f"{words[1]}: exit status {process.returncode}: {printed[-300:]}")
    return printed


def tests(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """The tests that need a GPU; without one, which they are."""
    words = ["-m", "pytest", "-m", "gpu", "tests/crappify", "tests/training/test_losses.py"]
    printed = run(*words, *(["--collect-only"] if options.dry_run else []))
    counts = re.findall(r"^.*\d+ (?:passed|failed|skipped|deselected).*$", printed, re.MULTILINE)
    yield "tests marked `gpu`", counts[-1].strip("= "), "collected only" if options.dry_run else ""


def training(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """The whole training and its bare step, in turns."""
    words = ["scripts/benchmark_training.py", "--without-pssr", "--busy", "--device", options.device]
    words += ["--batch", str(options.batch), "--tile", str(options.tile), "--steps", str(options.steps)]
    words += [
        "--rounds",
        str(options.rounds),
        "--workers",
        str(options.workers),
        "--json",
        str(folder / "training.json"),
    ]
    run(*words, "--channels", *map(str, options.channels))
    result = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    for name, rival in result["rivals"].items():
        tiles = options.batch * options.steps / min(rival["wall"])
        if "product" not in name:
            yield f"{name}, tiles a second", f"{tiles:.1f}", f"{options.batch} tiles of {options.tile} px a step"
    ratio = result["ratios"]["training over its bare step, wall"]
    yield "time of a training step over its bare step", "{median:.2f} ({min:.2f} to {max:.2f})".format(**ratio), ""


def waits(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Steps during which the processor waits for the GPU, between two reports of the loss."""
    (folder / "images").mkdir()
    write_sheet(folder / "images" / "sheet.tif", 8 * options.tile)
    settings = {"device": options.device, "tile": options.tile, "batch_size": 2, "log_every": 1000, "num_workers": 0}
    workflow = training_workflow(folder / "images", folder / "waits", epochs=1, **settings)
    workflow.initialize()
    trainer = workflow.parser.get_parsed_content("train#trainer")
    gpu, steps = options.device.startswith("cuda"), 0

    def watch(engine: object) -> None:
        nonlocal steps
        steps = trainer.state.iteration
        if gpu and steps == 3:  # the first ones choose kernels
            torch.cuda.set_sync_debug_mode("warn")
        if steps == 13:
            trainer.terminate()

    trainer.add_event_handler(Events.ITERATION_COMPLETED, watch)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.run()
    if gpu:
        torch.cuda.set_sync_debug_mode("default")
    waited = [warning for warning in caught if "synchroniz" in str(warning.message)]
    places = sorted({f"{Path(warning.filename).name}:{warning.lineno}" for warning in waited})
    yield "waits for the GPU in 10 steps", str(len(waited)) if gpu else "-", ", ".join(places) or f"{steps} steps taken"


def restoring(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Restore images from file to file, and run the bare network on as many windows."""
    gpu = options.device.startswith("cuda")
    for side in options.sides:
        write_sheet(folder / "scan.tif", side)
        if gpu:
            torch.cuda.reset_peak_memory_stats()
        scan, out = folder / "scan.tif", folder / "out.tif"
        seconds = _seconds(partial(restore, scan, out, WEIGHTS, device=options.device, overwrite=True))
        memory = f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB of the GPU at most" if gpu else ""
        network, _ = load_weights(WEIGHTS, options.device)
        inferer = SeamlessInferer(None)
        along, across = inferer.axes((side, side))
        count = len(along.covering(0, along.size)) * len(across.covering(0, across.size))
        window = torch.rand(1, 1, along.length, across.length, device=options.device)
        bare = partial(_predict, inferer, network, window, count)
        bare()
        yield f"restoring {side} x {side} px, seconds", f"{seconds:.1f}", memory
        yield "  share of the bare network's speed", f"{_seconds(bare) / seconds:.2f}", f"{count} windows"


def _predict(inferer: SeamlessInferer, network: torch.nn.Module, window: torch.Tensor, count: int) -> None:
    with torch.inference_mode():
        for _ in range(count):
            inferer.predicted([window], network)
    if window.is_cuda:
        torch.cuda.synchronize()


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def processes(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Two processes with half a batch each, and one: the validation's score after as many steps.

    On one GPU they run on the processor: nccl takes one process a GPU.
    """
    (folder / "shared").mkdir()
    for number in range(4):
        write_sheet(folder / "shared" / f"{number}.tif", 4 * options.tile)
    scores = []
    device = [] if torch.cuda.device_count() > 1 else ["--device", "cpu"]
    for count in (1, 2):
        out = folder / f"run{count}"
        words = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", "-m", "monai.bundle"]
        words += ["run", "training", "--config_file"]
        words += ["['bundle/configs/train.json','bundle/configs/multi_gpu_train.json']"]
        words += ["--bundle_root", "bundle", "--dataset_dir", str(folder / "shared"), "--output_dir", str(out)]
        words += ["--ckpt_dir", str(out), "--epochs", "2", "--batch_size", str(8 // count), "--tile", str(options.tile)]
        printed = run(*words, *device)
        found = re.findall(r"val_ssim ([\d.]+)", printed)
        scores.append(float(found[-1]) if found else float("nan"))
    where = "processor, gloo" if device else "GPUs"
    yield "validation SSIM, one process and two", f"{scores[0]:.4f}, {scores[1]:.4f}", where


def main() -> None:
    """Run all checks, and print and write their table."""
    parser = argparse.ArgumentParser(description="All that a GPU has to show, in ten minutes.")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the processor")
    parser.add_argument("--device", help="by default cuda; cpu in a dry run")
    parser.add_argument("--only", nargs="+", metavar="CHECK", help="names of functions of this script")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the table here")
    options = parser.parse_args()
    options.device = options.device or ("cpu" if options.dry_run else "cuda")
    sizes = {"batch": 16, "tile": 256, "steps": 20, "rounds": 5, "workers": 8, "channels": [32, 64, 128, 256]}
    small = {"batch": 1, "tile": 32, "steps": 1, "rounds": 2, "workers": 0, "channels": [4, 8]}
    vars(options).update(small if options.dry_run else sizes)
    options.sides = [128] if options.dry_run else [4096, 8192, 16384]
    gpu = options.device.startswith("cuda")
    name = torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine()
    lines = [f"torch {torch.__version__}, {name}", "", "| what | figure | |", "|---|---|---|"]
    failed = False
    for check in (tests, training, waits, restoring, processes):
        if options.only and check.__name__ not in options.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                lines += [f"| {' | '.join(row)} |" for row in check(options, Path(folder))]
            except Exception as error:  # whatever it is, the other checks are worth their figures
                failed = True
                lines.append(f"| {check.__name__} | failed | {' '.join(str(error).split())[-300:]} |")
        print(lines[-1], file=sys.stderr, flush=True)
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(failed)


if __name__ == "__main__":
    main()
