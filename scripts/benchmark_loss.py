"""What the training loss costs, forward and backward, beside its rivals.

    python scripts/benchmark_loss.py --rounds 5 --pssr-python ENV/bin/python --json loss.json

Rivals: this package's loss; pytorch-msssim with a Gaussian-filtered L1; and, when ``--pssr-python`` names a Python that
has pssr 2.4.0, the original's ``SSIMLoss``. Each runs in a process of its own and they take turns (A B C A B C ...), so
that what else the machine does falls on all alike. A ratio is taken within a round; its spread is the least and most.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

OURS, LIBRARY, ORIGINAL = "pssr2_monai", "pytorch_msssim + L1", "pssr 2.4.0"
SMALLEST = 161  # pytorch-msssim always takes five scales


def loss_of(rival: str) -> Callable[[Any, Any], Any]:
    """The loss of one rival, on images of one channel in [0, 1]; imported here, as each environment has its own."""
    if rival == OURS:
        from pssr2_monai.losses import MSSSIML1Loss

        return MSSSIML1Loss()
    if rival == ORIGINAL:
        from pssr.util import SSIMLoss

        return SSIMLoss()
    import torch
    from pytorch_msssim import MS_SSIM

    similarity = MS_SSIM(channel=1, data_range=1.0)
    line = torch.exp(-((torch.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window = torch.outer(line, line)[None, None] / line.sum() ** 2

    def loss(image: Any, target: Any) -> Any:
        error = torch.nn.functional.conv2d((image - target).abs(), window.to(image.device), padding=5)
        return 0.8 * (1 - similarity(image, target)) + 0.2 * error.mean()

    return loss


def work(rival: str, options: argparse.Namespace) -> None:
    """Answer each line of standard input with the seconds of one forward and backward, as a line of JSON."""
    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    loss = loss_of(rival)
    coarse = torch.rand(options.batch, 1, options.size // 8, options.size // 8)
    target = torch.nn.functional.interpolate(coarse, size=(options.size, options.size), mode="bilinear")
    image = (target + 0.1 * torch.randn_like(target)).clamp(0, 1).to(device).requires_grad_()
    target = target.to(device)

    def step() -> float:
        image.grad = None
        value = loss(image, target)
        value.backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return float(value.detach())

    print(json.dumps({"torch": torch.__version__, "value": step()}), flush=True)
    for _ in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        step()
        print(json.dumps({"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}), flush=True)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Let the rivals take turns; gives their seconds, round by round, and the ratios to this package's."""
    pythons = {OURS: sys.executable, LIBRARY: sys.executable}
    if options.pssr_python:
        pythons[ORIGINAL] = options.pssr_python
    # Waiting threads must not spin while another rival has its turn.
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": "passive"}
    same = ["--batch", "--size", "--threads", "--device"]
    arguments = [word for name in same for word in (name, str(getattr(options, name[2:])))]
    workers: dict[str, subprocess.Popen[str]] = {}
    try:
        rivals: dict[str, dict[str, Any]] = {}
        for name, python in pythons.items():
            command = [python, str(Path(__file__).resolve()), "--worker", name, *arguments]
            workers[name] = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            rivals[name] = {**answer(workers[name], name), "cpu": [], "wall": []}
        for _ in range(options.rounds):
            for name, worker in workers.items():
                assert worker.stdin is not None
                print("go", file=worker.stdin, flush=True)
                seconds = answer(worker, name)
                rivals[name]["cpu"].append(seconds["cpu"])
                rivals[name]["wall"].append(seconds["wall"])
    finally:
        for worker in workers.values():
            worker.communicate()
    for rival in rivals.values():
        for clock in ("cpu", "wall"):
            ratios = [theirs / ours for theirs, ours in zip(rival[clock], rivals[OURS][clock], strict=True)]
            rival[f"{clock}_ratio"] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    settings = {name[2:]: getattr(options, name[2:]) for name in [*same, "--rounds"]}
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    return {"settings": settings, "machine": machine, "rivals": rivals}


def answer(worker: subprocess.Popen[str], name: str) -> dict[str, Any]:
    """The next line of JSON from a worker."""
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        sys.exit(f"{name}: its process ended early; its message stands above")
    answered: dict[str, Any] = json.loads(line)
    return answered


def table(result: dict[str, Any]) -> str:
    """The figures as text."""
    settings = result["settings"]
    lines = [
        f"forward + backward, {settings['batch']} x 1 x {settings['size']} x {settings['size']}, {settings['device']}, "
        f"{settings['threads']} threads, {settings['rounds']} rounds",
        f"{'loss':<22}{'CPU s':>8}{'wall s':>8}{'CPU ratio (least..most)':>27}{'wall ratio':>27}  value   torch",
    ]
    for name, rival in result["rivals"].items():
        cpu, wall = statistics.median(rival["cpu"]), statistics.median(rival["wall"])
        ratios = [
            "{median:.1f} ({min:.1f}..{max:.1f})".format(**rival[f"{clock}_ratio"]).rjust(27)
            for clock in ("cpu", "wall")
        ]
        lines.append(f"{name:<22}{cpu:8.3f}{wall:8.3f}{''.join(ratios)}  {rival['value']:.4f}  {rival['torch']}")
    return "\n".join(lines)


def main() -> None:
    """Read the options; measure, or serve as the worker of one rival."""
    parser = argparse.ArgumentParser(description="What the training loss costs beside its rivals.")
    parser.add_argument("--batch", type=int, default=4, help="images a step")
    parser.add_argument("--size", type=int, default=512, help=f"side of an image in pixels, {SMALLEST} or more")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each rival, after one to warm up")
    parser.add_argument("--threads", type=int, default=2, help="compute threads")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--pssr-python", metavar="PATH", help="a Python that has pssr 2.4.0 installed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure here")
    parser.add_argument("--worker", choices=[OURS, LIBRARY, ORIGINAL], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.size < SMALLEST:
        parser.error(f"--size: {options.size} px is below {SMALLEST}, which the rivals' five scales need")
    if min(options.batch, options.rounds, options.threads) < 1:
        parser.error("--batch, --rounds and --threads: give 1 or more")
    if options.worker:
        work(options.worker, options)
        return
    result = measure(options)
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
