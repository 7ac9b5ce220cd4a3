"""Cost of the training loss, forward and backward, compared with its rivals.

    python scripts/benchmark_loss.py --rounds 5 --json loss.json

Rivals: this package's loss; pytorch-msssim with a Gaussian-filtered L1; and the ``SSIMLoss`` of pssr 2.4.0. A ratio is
taken within a round; its spread is the least and greatest value.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any

from turns import add_options, laps, pssr_python, ratios, report, take_turns

OURS, LIBRARY, ORIGINAL = "pssr2_monai", "pytorch_msssim + L1", "pssr 2.4.0"
SMALLEST = 161  # pytorch-msssim always takes five scales


def loss_of(rival: str) -> Callable[[Any, Any], Any]:
    """The loss of one rival, on images of one channel in [0, 1]; imports are local, since environments differ."""
    if rival == OURS:
        from pssr2_monai.training.losses import MSSSIML1Loss

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

    for _ in laps({"torch": torch.__version__, "value": step()}):
        step()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Let the rivals take turns; return their seconds, round by round, and the ratios to this package's."""
    pythons = {OURS: sys.executable, LIBRARY: sys.executable}
    if python := pssr_python(options):
        pythons[ORIGINAL] = python
    settings = {name: getattr(options, name) for name in ("batch", "size", "device")}
    arguments = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    rivals = take_turns(__file__, pythons, arguments, options.rounds, options)
    for rival in rivals.values():
        for clock in ("cpu", "wall"):
            rival[f"{clock}_ratio"] = ratios(rival[clock], rivals[OURS][clock])
    return {"settings": settings | {"threads": options.threads, "rounds": options.rounds}, "rivals": rivals}


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
    parser = argparse.ArgumentParser(description="Cost of the training loss, compared with its rivals.")
    parser.add_argument("--batch", type=int, default=4, help="images per step")
    parser.add_argument("--size", type=int, default=512, help=f"side of an image in pixels, {SMALLEST} or more")
    add_options(parser, threads=2)
    options = parser.parse_args()
    if options.size < SMALLEST:
        parser.error(f"--size: {options.size} px is below {SMALLEST}, which the rivals' five scales need")
    if min(options.batch, options.rounds, options.threads) < 1:
        parser.error("--batch, --rounds and --threads: give 1 or more")
    if options.worker:
        work(options.worker, options)
        return
    result = measure(options)
    report(result, table(result), options.json)


if __name__ == "__main__":
    main()
