"""Cost of each network preset: parameters, arithmetic per tile, and megapixels per CPU second.

Runs the whole network, as in restoring, on one LR tile; presets take turns, round after round, so that other load on
the machine affects all of them alike. CPU time counts; wall time is reported as well. 3-D presets are left out.

    python scripts/benchmark_networks.py [--presets NAME ...] [--rounds 5] [--threads 1] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from torch.utils.flop_counter import FlopCounterMode

from pssr2_monai.bundle import preset_names
from pssr2_monai.networks.precision import channels_last, in_precision
from pssr2_monai.training.config import config_files

LR_SIDE = 128
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Predict = Callable[..., torch.Tensor]


def network_presets() -> list[str]:
    """Return the presets that contain a network for planes."""
    names = []
    for name in preset_names():
        preset = json.loads(Path(config_files("train", name)[-1]).read_text(encoding="utf-8"))
        if "network_def" in preset and not isinstance(preset.get("scale"), list):
            names.append(name)
    return names


def build(name: str) -> torch.nn.Module:
    """Return a preset's network, prepared as for restoring."""
    parser = ConfigParser()
    parser.read_config(config_files("train", name))
    network: torch.nn.Module = parser.get_parsed_content("network_def")
    return channels_last(network, "cpu").eval()


def size(network: torch.nn.Module, image: torch.Tensor) -> dict[str, float]:
    """Return millions of parameters, and GFLOP for the image (a product and a sum count as two)."""
    with FlopCounterMode(display=False) as counter:
        network(image)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"parameters_M": parameters / 1e6, "GFLOP": counter.get_total_flops() / 1e9}


def seconds(predict: Predict, image: torch.Tensor) -> tuple[float, float]:
    """Return CPU and wall seconds of one forward pass."""
    wall, cpu = time.perf_counter(), time.process_time()
    predict(image)
    return time.process_time() - cpu, time.perf_counter() - wall


def measure(names: list[str], rounds: int) -> dict[str, dict[str, float]]:
    """The figures of each preset."""
    image = torch.rand(1, 1, LR_SIDE, LR_SIDE, generator=torch.Generator().manual_seed(0))
    networks = {name: build(name) for name in names}
    figures = {name: size(network, image) for name, network in networks.items()}
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for round_ in range(rounds + 1):
        for name, network in networks.items():
            for label, dtype in DTYPES.items():
                taken = seconds(in_precision(network, dtype), image)
                if round_ > 0:  # the first warms up
                    times.setdefault((name, label), []).append(taken)
    pixels = image.numel() * 16 / 1e6
    for (name, label), pairs in times.items():
        for kind, values in zip(("cpu", "wall"), zip(*pairs, strict=True), strict=True):
            figures[name][f"{label}_MP_per_{kind}_s"] = pixels / statistics.median(values)
    return figures


def table(figures: dict[str, dict[str, float]]) -> str:
    """The figures as Markdown."""
    lines = [
        "| preset | parameters (M) | GFLOP | float32, MP/CPU s | bfloat16, MP/CPU s | float32, MP/s | bfloat16, MP/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, values in figures.items():
        rates = [values[f"{label}_MP_per_{kind}_s"] for kind in ("cpu", "wall") for label in DTYPES]
        numbers = [values["parameters_M"], values["GFLOP"], *rates]
        lines.append(f"| `{name}` | {' | '.join(f'{number:.3g}' for number in numbers)} |")
    return "\n".join(lines)


def main() -> None:
    known = network_presets()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--presets", nargs="+", choices=known, default=known)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for all figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        figures = measure(arguments.presets, arguments.rounds)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=4) + "\n", encoding="utf-8")
    print(f"{LR_SIDE} -> {4 * LR_SIDE} px, {arguments.threads} threads, medians of {arguments.rounds} rounds\n")
    print(table(figures))


if __name__ == "__main__":
    main()
