"""Cost of restoring an image from file to file, compared with the bare network and the original package.

    python scripts/benchmark_restore.py --side 1024 --rounds 3 --json restore.json
    python scripts/benchmark_restore.py --growth 512 1024 2048 4096 --channels 32 64 --threads 2

Rivals, with the same weights: this package's whole restoring (reading, windows with their overlap, blending, writing)
at the default precision, in float32, and with OpenVINO, also in 8-bit integers; its bare network, on as many windows of
the same size in memory; and the network of pssr 2.4.0 on tiles in memory, cut as by its datasets, without overlap,
reading or writing. ``--growth`` restores larger and larger sheets instead. A ratio is taken within
a round; its spread is the least and greatest value.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from turns import add_options, laps, pssr_python, ratios, report, take_turns

WHOLE, WHOLE32 = "pssr2_monai", "pssr2_monai, float32"
OPENVINO, INT8 = "pssr2_monai, OpenVINO", "pssr2_monai, OpenVINO, int8"
BARE, BARE32 = "bare network", "bare network, float32"
ORIGINAL, WEIGHTS = "pssr 2.4.0, bare network", "weights"
RIVALS = (WHOLE, WHOLE32, BARE, BARE32, ORIGINAL, OPENVINO, INT8)
SCALE, DEPTH = 4, 3
ORIGINAL_TILE = 128  # LR pixels, of 512 HR pixels


def write_sheet(path: Path, side: int) -> None:
    """Write an 8-bit sheet with structure."""
    import numpy as np
    import tifffile
    from scipy.ndimage import gaussian_filter

    patch = gaussian_filter(np.random.default_rng(0).normal(size=(512, 512)), 2, mode="wrap")
    patch = (128 + 50 * patch / patch.std()).clip(0, 255).astype(np.uint8)
    tifffile.imwrite(path, np.tile(patch, (side // 512 + 1,) * 2)[:side, :side])


def work(options: argparse.Namespace) -> None:
    """Take turns as one rival."""
    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.worker in (ORIGINAL, WEIGHTS):
        work_as_the_original(options)
        return
    from pssr2_monai.machine import keep_memory
    from pssr2_monai.restoration.restore import restore

    keep_memory()
    precision = {WHOLE32: "float32", BARE32: "float32", INT8: "int8"}.get(options.worker, "auto")
    if options.worker in (BARE, BARE32):
        work_bare(options, precision)
        return
    for _ in laps({"torch": torch.__version__}):
        restore(
            options.folder / "sheet.tif",
            options.folder / "restored.ome.tif",
            options.folder / "weights.pth",
            window=options.window,
            precision=precision,
            backend="openvino" if options.worker in (OPENVINO, INT8) else "torch",
            device=options.device,
            overwrite=True,
        )


def work_bare(options: argparse.Namespace, precision: str) -> None:
    """Run the network on as many windows in memory as restoring takes."""
    import torch

    from pssr2_monai.networks.weights import load_weights
    from pssr2_monai.restoration.inferer import SeamlessInferer

    network, _ = load_weights(options.folder / "weights.pth", options.device)
    inferer = SeamlessInferer(options.window, precision=precision)
    along, across = inferer.axes((options.side, options.side))
    count = len(along.covering(0, along.size)) * len(across.covering(0, across.size))
    window = torch.rand(1, 1, along.length, across.length, device=options.device)
    for _ in laps({"torch": torch.__version__, "windows": count, "window": [along.length, across.length]}):
        with torch.inference_mode():
            for _ in range(count):
                inferer.predicted([window], network)


def work_as_the_original(options: argparse.Namespace) -> None:
    """Run the original's network, or write its weights for the other rivals."""
    import torch
    from pssr.models import ResUNet

    network = ResUNet(hidden=options.channels, scale=SCALE, depth=DEPTH).to(options.device).eval()
    if options.worker == WEIGHTS:
        torch.save(network.state_dict(), options.folder / "weights.pth")
    else:
        network.load_state_dict(torch.load(options.folder / "weights.pth"))
    tile = torch.rand(1, 1, ORIGINAL_TILE, ORIGINAL_TILE, device=options.device) * 255
    for _ in laps({"torch": torch.__version__}):
        with torch.no_grad():
            for _ in range((options.side // ORIGINAL_TILE) ** 2):
                network(tile).clamp(0, 255).to(torch.uint8)


def measure(options: argparse.Namespace, side: int, pythons: dict[str, str], rounds: int) -> dict[str, Any]:
    """Let the rivals restore a sheet in turns; return their figures with HR megapixels per second."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sheet(folder / "sheet.tif", side)
        arguments = ["--folder", name, "--side", str(side), "--device", options.device]
        arguments += ["--channels", *map(str, options.channels)]
        arguments += ["--window", str(options.window)] if options.window else []
        python = pssr_python(options)
        assert python is not None
        take_turns(__file__, {WEIGHTS: python}, arguments, 0, options)
        if ORIGINAL in pythons:
            pythons = pythons | {ORIGINAL: python}
        rivals = take_turns(__file__, pythons, arguments, rounds, options)
    for rival in rivals.values():
        for clock in ("cpu", "wall"):
            rival[f"MP/{clock} s"] = [(SCALE * side) ** 2 / 1e6 / seconds for seconds in rival[clock]]
    return rivals


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Compare all rivals on one sheet."""
    pythons = dict.fromkeys(options.rivals, sys.executable)
    rivals = measure(options, options.side, pythons, options.rounds)
    compared = {
        "over the original, CPU": (WHOLE, ORIGINAL, "cpu"),
        "over the original in float32, CPU": (WHOLE32, ORIGINAL, "cpu"),
        "over the original by OpenVINO, CPU": (OPENVINO, ORIGINAL, "cpu"),
        "over the original by OpenVINO in int8, CPU": (INT8, ORIGINAL, "cpu"),
        "share of the bare network, CPU": (WHOLE, BARE, "cpu"),
        "share of the bare network in float32, CPU": (WHOLE32, BARE32, "cpu"),
        "share of the bare network, wall": (WHOLE, BARE, "wall"),
    }
    gains = {
        name: ratios(rivals[above][f"MP/{clock} s"], rivals[below][f"MP/{clock} s"])
        for name, (above, below, clock) in compared.items()
        if above in rivals and below in rivals
    }
    return {"settings": _settings(options) | {"side": options.side}, "rivals": rivals, "ratios": gains}


def grow(options: argparse.Namespace) -> dict[str, Any]:
    """Restore one sheet after another."""
    sheets = {side: measure(options, side, {WHOLE: sys.executable}, options.rounds)[WHOLE] for side in options.growth}
    return {"settings": _settings(options), "sheets": sheets}


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("channels", "rounds", "threads", "device")}


def table(result: dict[str, Any]) -> str:
    """The figures as text."""
    settings = result["settings"]
    lines = [
        f"ResUNet {'-'.join(map(str, settings['channels']))}, {SCALE}x, {settings['rounds']} rounds, "
        f"{settings['threads']} threads, {settings['device']}"
    ]
    if "sheets" in result:
        lines.append(f"{'LR side':>8}{'HR MP':>9}{'s/MP (wall)':>13}{'CPU s/MP':>10}{'peak MB':>9}")
        for side, figures in result["sheets"].items():
            megapixels = (SCALE * side) ** 2 / 1e6
            wall, cpu = (statistics.median(figures[clock]) / megapixels for clock in ("wall", "cpu"))
            lines.append(f"{side:>8}{megapixels:9.1f}{wall:13.4f}{cpu:10.4f}{max(figures['MB']):9.0f}")
        return "\n".join(lines)
    lines.append(f"{'sheet of ' + str(settings['side']) + ' px':<28}{'MP/CPU s':>10}{'MP/s':>8}{'peak MB':>9}  torch")
    for name, rival in result["rivals"].items():
        cpu, wall = (statistics.median(rival[f"MP/{clock} s"]) for clock in ("cpu", "wall"))
        lines.append(f"{name:<28}{cpu:10.2f}{wall:8.2f}{max(rival['MB']):9.0f}  {rival['torch']}")
    lines += [
        f"{name}: {ratio['median']:.2f} ({ratio['min']:.2f}..{ratio['max']:.2f})"
        for name, ratio in result["ratios"].items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Read the options; measure, or serve as the worker of one rival."""
    parser = argparse.ArgumentParser(description="Cost of restoring, compared with the original package.")
    parser.add_argument(
        "--channels", type=int, nargs="+", default=[32, 64, 128, 256], help="channels of the ResUNet's stages"
    )
    parser.add_argument("--side", type=int, default=1024, help="LR pixels of the sheet, a multiple of 128")
    parser.add_argument("--growth", type=int, nargs="+", metavar="SIDE", help="restore sheets of these sides instead")
    parser.add_argument("--window", type=int, help="largest side of the windows in LR pixels, instead of the default")
    parser.add_argument("--rivals", nargs="+", choices=RIVALS, default=RIVALS, help="the rivals to compare")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    add_options(parser, rounds=3)
    options = parser.parse_args()
    if options.worker:
        work(options)
        return
    if options.without_pssr:
        parser.error("--without-pssr: the weights come from the original package; leave this option out")
    result = grow(options) if options.growth else compare(options)
    report(result, table(result), options.json)


if __name__ == "__main__":
    main()
