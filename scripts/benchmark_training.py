"""Cost of a training step: this package's training compared with its bare step and the original package.

    python scripts/benchmark_training.py --channels 32 64 128 256 --batch 4 --tile 256 --json training.json
    python scripts/benchmark_training.py --quality DIR --steps 300 --seeds 0 1 2

Rivals, with one architecture, batch and tile: the whole training of the bundle's config (tiles from sheets, crappifier,
loader, Ignite, handlers); its network, loss and optimizer alone, on tensors in memory, at the default precision and in
float32; and network, loss and training step of pssr 2.4.0, on tensors in memory, too. A product of two large matrices
shows what the machine can reach. A ratio is taken within a round.
Its spread is the least and greatest value.

``--quality`` trains each rival on the same batches, made from the images of a folder, and scores all with one loss on
held-out tiles.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from turns import add_options, laps, pssr_python, ratios, report, take_turns

WHOLE, BARE, FLOAT32 = "pssr2_monai, training", "pssr2_monai, bare step", "pssr2_monai, bare, float32"
ORIGINAL, PRODUCT, PRODUCT32 = "pssr 2.4.0, bare step", "matrix product", "matrix product, float32"
SCALE, DEPTH = 4, 3
SHEET_SIDE, SHEETS = 1024, 4
MATRIX_SIDE = 2048


def network_of(rival: str, channels: list[int], device: str) -> Any:
    """Return the network of a rival; imports are local, since the original has an environment of its own."""
    if rival == ORIGINAL:
        from pssr.models import ResUNet

        return ResUNet(hidden=channels, scale=SCALE, depth=DEPTH).to(device)
    from pssr2_monai.machine import keep_memory
    from pssr2_monai.networks import ResUNet
    from pssr2_monai.networks.precision import channels_last

    keep_memory()
    return channels_last(ResUNet(1, 1, channels=channels, scale=SCALE, depth=DEPTH), device)


def step_of(rival: str, network: Any, device: str, lr: float = 0.001) -> Callable[[Any, Any], Any]:
    """Return a function that takes one training step on LR and HR images in [0, 1], as the rival does."""
    import torch

    if rival == ORIGINAL:
        from pssr.util import SSIMLoss

        loss_of: Any = SSIMLoss()
        forward: Any = lambda image: network(image * 255) / 255  # noqa: E731
        optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
    else:
        from pssr2_monai.networks.precision import choose_precision, in_precision
        from pssr2_monai.training.losses import MSSSIML1Loss

        loss_of = MSSSIML1Loss()
        precision = "float32" if rival == FLOAT32 else "auto"
        forward = in_precision(network, choose_precision(precision, torch.device(device)))
        optimizer = torch.optim.AdamW(network.parameters(), lr=lr, fused=True)

    def step(image: Any, target: Any) -> Any:
        loss = loss_of(forward(image), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def write_sheets(folder: Path) -> None:
    """Write 8-bit sheets with structure."""
    import numpy as np
    import tifffile
    from scipy.ndimage import gaussian_filter

    for number in range(SHEETS):
        rough = np.random.default_rng(number).normal(size=(SHEET_SIDE, SHEET_SIDE))
        smooth = sum(gaussian_filter(rough, sigma) * sigma for sigma in (1, 3, 9))
        sheet = (128 + 40 * smooth / smooth.std()).clip(0, 255).round().astype(np.uint8)
        tifffile.imwrite(folder / f"sheet{number}.tif", sheet)


def work(options: argparse.Namespace) -> None:
    """Take turns as one rival."""
    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.worker == WHOLE:
        train_whole(options)
    elif options.worker in (PRODUCT, PRODUCT32):
        multiply(options)
    else:
        train_bare(options)


def train_bare(options: argparse.Namespace) -> None:
    """Take steps on tensors in memory, after counting the operations of one."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network = network_of(options.worker, options.channels, options.device)
    step = step_of(options.worker, network, options.device)
    target = torch.rand(options.batch, 1, options.tile, options.tile, device=options.device)
    image = torch.nn.functional.avg_pool2d(target, SCALE)
    with FlopCounterMode(display=False) as counter:
        network(image).sum().backward()
    network.zero_grad()
    step(image, target)
    first = {"torch": torch.__version__, "GFLOP": options.steps * counter.get_total_flops() / 1e9}
    for _ in laps(first):
        for _ in range(options.steps):
            step(image, target)
        _synchronize(options.device)


def multiply(options: argparse.Namespace) -> None:
    """Multiply two large matrices, for a few seconds."""
    import torch

    from pssr2_monai.networks.precision import choose_precision

    precision = "float32" if options.worker == PRODUCT32 else "auto"
    dtype = choose_precision(precision, torch.device(options.device))
    matrix = torch.rand(MATRIX_SIDE, MATRIX_SIDE, device=options.device).to(dtype)
    count = 10
    matrix @ matrix
    for _ in laps({"torch": torch.__version__, "GFLOP": count * 2 * MATRIX_SIDE**3 / 1e9}):
        for _ in range(count):
            matrix @ matrix
        _synchronize(options.device)


def train_whole(options: argparse.Namespace) -> None:
    """Run the bundle's training, pausing its trainer while other rivals have their turns."""
    import torch
    from ignite.engine import Engine, Events
    from monai.bundle import ConfigParser

    from pssr2_monai.machine import keep_memory
    from pssr2_monai.training.config import config_files

    parser = ConfigParser()
    parser.read_config(config_files("train"))
    keep_memory()  # as the config does before it trains
    parser.update(
        {
            "hr_dir": str(options.folder),
            "output_dir": str(options.folder / "out"),
            "tile": options.tile,
            "batch_size": options.batch,
            "scale": SCALE,
            "num_workers": options.workers,
            "network_def#channels": options.channels,
            "network_def#depth": DEPTH,
            "epochs": 1_000_000,
            "val_interval": 1_000_000,
            "device": f"$torch.device('{options.device}')",
        }
    )
    turns: Iterator[None] = iter(())

    def take_turn(trainer: Engine) -> None:
        nonlocal turns
        if trainer.state.iteration == 2:  # the first two warm up
            turns = laps({"torch": torch.__version__})
            next(turns, None)
        elif trainer.state.iteration > 2 and (trainer.state.iteration - 2) % options.steps == 0:
            _synchronize(options.device)
            if next(turns, "over") == "over":
                trainer.terminate()

    trainer = parser.get_parsed_content("train#trainer")
    parser.get_parsed_content("progress").attach(trainer)
    parser.get_parsed_content("schedule").attach(trainer)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, take_turn)
    trainer.run()


def _synchronize(device: str) -> None:
    if device != "cpu":
        import torch

        torch.cuda.synchronize()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Let the rivals take turns; return their figures, round by round, and the ratios to this package."""
    pythons = dict.fromkeys((WHOLE, BARE, FLOAT32, PRODUCT, PRODUCT32), sys.executable)
    if python := pssr_python(options):
        pythons[ORIGINAL] = python
    settings = {name: getattr(options, name) for name in ("batch", "tile", "steps", "workers", "device")}
    arguments = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    arguments += ["--channels", *map(str, options.channels)]
    with tempfile.TemporaryDirectory() as folder:
        write_sheets(Path(folder))
        rivals = take_turns(__file__, pythons, ["--folder", folder, *arguments], options.rounds, options)
    for rival in rivals.values():
        if "GFLOP" in rival:
            rival["GFLOP/s"] = [rival["GFLOP"] / seconds for seconds in rival["cpu"]]
    compared = {
        "training over the original, CPU": (ORIGINAL, WHOLE, "cpu"),
        "training over the original, wall": (ORIGINAL, WHOLE, "wall"),
        "bare step over the original, CPU": (ORIGINAL, BARE, "cpu"),
        "bare step over the original in float32, CPU": (ORIGINAL, FLOAT32, "cpu"),
        "training over its bare step, CPU": (WHOLE, BARE, "cpu"),
        "training over its bare step, wall": (WHOLE, BARE, "wall"),
    }
    result: dict[str, Any] = {
        "settings": settings | {"channels": options.channels, "threads": options.threads, "rounds": options.rounds},
        "rivals": rivals,
        "ratios": {
            name: ratios(rivals[slow][clock], rivals[fast][clock])
            for name, (slow, fast, clock) in compared.items()
            if slow in rivals
        },
        "share of the matrix product": {
            "default precision": ratios(rivals[BARE]["GFLOP/s"], rivals[PRODUCT]["GFLOP/s"]),
            "float32": ratios(rivals[FLOAT32]["GFLOP/s"], rivals[PRODUCT32]["GFLOP/s"]),
        },
    }
    return result


def table(result: dict[str, Any]) -> str:
    """The figures as text."""
    settings = result["settings"]
    samples = settings["batch"] * settings["steps"]
    lines = [
        f"ResUNet {'-'.join(map(str, settings['channels']))}, {settings['batch']} x {settings['tile']} px a step, "
        f"{settings['steps']} steps a turn, {settings['rounds']} rounds, {settings['threads']} threads, "
        f"{settings['workers']} loader workers, {settings['device']}",
        f"{'rival':<28}{'samples/CPU s':>14}{'samples/s':>11}{'GFLOP/CPU s':>13}  torch",
    ]
    for name, rival in result["rivals"].items():
        cpu, wall = statistics.median(rival["cpu"]), statistics.median(rival["wall"])
        speed = ("", "") if "product" in name else (f"{samples / cpu:.2f}", f"{samples / wall:.2f}")
        computed = f"{statistics.median(rival['GFLOP/s']):.0f}" if "GFLOP/s" in rival else ""
        lines.append(f"{name:<28}{speed[0]:>14}{speed[1]:>11}{computed:>13}  {rival['torch']}")
    lines += [f"{name}: {_spread(ratio)}" for name, ratio in result["ratios"].items()]
    lines += [
        f"share of the matrix product's FLOP/s, {name}: {_spread(ratio)}"
        for name, ratio in result["share of the matrix product"].items()
    ]
    return "\n".join(lines)


def _spread(ratio: dict[str, float]) -> str:
    return "{median:.2f} ({min:.2f}..{max:.2f})".format(**ratio)


def learn(options: argparse.Namespace) -> None:
    """Train as one rival on the batches in the folder; write the held-out images that it restores."""
    import numpy as np
    import torch

    torch.set_num_threads(options.threads)
    device = options.device
    batches = np.load(options.folder / "batches.npz")
    lr, hr = (torch.from_numpy(batches[key]) for key in ("lr", "hr"))
    for seed in options.seeds:
        torch.manual_seed(seed)
        network = network_of(options.worker, options.channels, device)
        step = step_of(options.worker, network, device)
        order = torch.randperm(len(lr), generator=torch.Generator().manual_seed(seed))
        for number in range(options.steps):
            chosen = order[torch.arange(number * options.batch, (number + 1) * options.batch) % len(lr)]
            step(lr[chosen].to(device), hr[chosen].to(device))
        network.eval()
        with torch.no_grad():
            images = torch.from_numpy(batches["held_out_lr"]).to(device)
            white = 255 if options.worker == ORIGINAL else 1
            restored = torch.cat([network(image[None] * white) / white for image in images])
        np.save(options.folder / f"{options.worker}_{seed}.npy", restored.cpu().numpy())
    for _ in laps({}):
        pass


def compare_quality(options: argparse.Namespace) -> dict[str, Any]:
    """Return each rival's loss on held-out tiles after training on the same batches, for each seed."""
    import numpy as np
    import torch
    from monai.bundle import ConfigParser

    from pssr2_monai.training.config import config_files
    from pssr2_monai.training.losses import MSSSIML1Loss

    parser = ConfigParser()
    parser.read_config(config_files("train"))
    parser.update({"hr_dir": str(options.quality), "tile": options.tile, "scale": SCALE, "num_workers": 0})
    pythons = dict.fromkeys((BARE, FLOAT32), sys.executable)
    if python := pssr_python(options):
        pythons[ORIGINAL] = python
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seen, held_out = (parser.get_parsed_content(f"{part}#dataset") for part in ("train", "validate"))
        count = min(options.steps * options.batch, 1024)
        samples = []
        for number in range(count):
            seen.set_epoch(number // len(seen))
            samples.append(seen[number % len(seen)])
        others = [held_out[number] for number in range(min(64, len(held_out)))]
        stacked = {
            f"{prefix}{short}": np.stack([np.asarray(sample[key]) for sample in part])
            for prefix, part in (("", samples), ("held_out_", others))
            for short, key in (("lr", "image"), ("hr", "label"))
        }
        np.savez(folder / "batches.npz", **stacked)
        settings = {key: getattr(options, key) for key in ("batch", "tile", "steps", "device")}
        arguments = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        arguments += ["--channels", *map(str, options.channels), "--seeds", *map(str, options.seeds)]
        arguments += ["--quality", name, "--folder", name]
        for rival, python in pythons.items():
            take_turns(__file__, {rival: python}, arguments, 0, options)
        target = torch.from_numpy(stacked["held_out_hr"])
        loss = MSSSIML1Loss()
        losses = {
            rival: [
                float(loss(torch.from_numpy(np.load(folder / f"{rival}_{seed}.npy")), target)) for seed in options.seeds
            ]
            for rival in pythons
        }
    return {"settings": settings | {"channels": options.channels, "seeds": options.seeds}, "losses": losses}


def quality_table(result: dict[str, Any]) -> str:
    """The figures as text."""
    settings = result["settings"]
    lines = [f"loss on held-out tiles after {settings['steps']} steps, seeds {', '.join(map(str, settings['seeds']))}"]
    for name, losses in result["losses"].items():
        lines.append(f"{name:<28}{'  '.join(f'{loss:.5f}' for loss in losses)}   mean {statistics.mean(losses):.5f}")
    return "\n".join(lines)


def main() -> None:
    """Read the options; measure, or serve as the worker of one rival."""
    parser = argparse.ArgumentParser(description="Cost of a training step, compared with the original package.")
    parser.add_argument(
        "--channels", type=int, nargs="+", default=[32, 64, 128, 256], help="channels of the ResUNet's stages"
    )
    parser.add_argument("--batch", type=int, default=4, help="tiles per step")
    parser.add_argument("--tile", type=int, default=256, help="side of an HR tile in pixels")
    parser.add_argument("--steps", type=int, default=2, help="steps per turn; for --quality, of a training")
    parser.add_argument("--workers", type=int, default=0, help="loader workers of the whole training")
    parser.add_argument("--quality", type=Path, metavar="DIR", help="compare what is learned from the images in DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds for --quality")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    add_options(parser)
    options = parser.parse_args()
    if options.quality and options.tile <= 160:
        parser.error("--tile: the loss of pssr 2.4.0 needs more than 160 px")
    if options.worker:
        (learn if options.quality else work)(options)
        return
    if options.quality:
        result = compare_quality(options)
        report(result, quality_table(result), options.json)
        return
    result = measure(options)
    report(result, table(result), options.json)


if __name__ == "__main__":
    main()
