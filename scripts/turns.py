"""Benchmarks whose rivals take turns (A B A B ...) in processes of their own, so that other load affects all alike.

A benchmark runs itself once for each rival, with ``--worker NAME``; the worker prepares, and iterates over ``laps``.
This module imports only the standard library, since the original package has an environment of its own.
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
import venv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["add_options", "laps", "pssr_python", "ratios", "report", "take_turns"]

PSSR = "pssr==2.4.0"
FIGURES = ("cpu", "wall", "MB")


def add_options(parser: argparse.ArgumentParser, rounds: int = 5, threads: int = 1) -> None:
    """Add the options that all benchmarks share."""
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each rival, after one for warming up")
    parser.add_argument("--threads", type=int, default=threads, help="compute threads")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--pssr-python", metavar="PATH", help="a Python that has pssr 2.4.0, else one is installed")
    parser.add_argument("--without-pssr", action="store_true", help="leave the original out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure here")
    parser.add_argument("--worker", metavar="RIVAL", help=argparse.SUPPRESS)


def pssr_python(options: argparse.Namespace) -> str | None:
    """Return a Python that has the original package: the one named, or that of an environment created for it."""
    if options.without_pssr:
        return None
    if options.pssr_python:
        return str(options.pssr_python)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    python = cache / "pssr2_monai" / PSSR / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if subprocess.run([python, "-c", "import pssr"], check=False).returncode if python.exists() else True:
        print(f"installing {PSSR} and its dependencies", file=sys.stderr)
        venv.create(python.parents[1], with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", PSSR], check=True)
    return str(python)


def laps(first: Mapping[str, Any]) -> Iterator[None]:
    """Print the first figures of a worker; then yield once per turn, and print its seconds and peak memory so far."""
    print(json.dumps(first), flush=True)
    for _ in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        seconds = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        print(json.dumps(seconds | {"MB": _megabytes()}), flush=True)


def _megabytes() -> float:
    """Peak memory of this process."""
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def take_turns(
    script: str, pythons: Mapping[str, str], arguments: Sequence[str], rounds: int, threads: int
) -> dict[str, dict[str, Any]]:
    """Return each rival's first figures, and round by round its CPU and wall seconds and its peak memory.

    Args:
        script: the benchmark.
        pythons: the Python that runs each rival.
        arguments: arguments of all workers.
        rounds: turns of each rival.
        threads: compute threads.
    """
    # Waiting threads must not spin while another rival has its turn.
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    workers: dict[str, subprocess.Popen[str]] = {}
    rivals: dict[str, dict[str, Any]] = {}
    try:
        for name, python in pythons.items():
            command = [python, str(Path(script).resolve()), "--worker", name, "--threads", str(threads), *arguments]
            workers[name] = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            rivals[name] = _answer(workers[name], name) | {figure: [] for figure in FIGURES}
        for _ in range(rounds):
            for name, worker in workers.items():
                assert worker.stdin is not None
                print("go", file=worker.stdin, flush=True)
                answer = _answer(worker, name)
                for figure in FIGURES:
                    rivals[name][figure].append(answer[figure])
    finally:
        for worker in workers.values():
            worker.communicate()
    return rivals


def _answer(worker: subprocess.Popen[str], name: str) -> dict[str, Any]:
    """The next line of JSON from a worker."""
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        sys.exit(f"{name}: its process ended early; its message is above")
    answered: dict[str, Any] = json.loads(line)
    return answered


def ratios(of: Sequence[float], to: Sequence[float]) -> dict[str, float]:
    """Return the median, least and greatest ratio of two rivals' figures, each ratio taken within one round."""
    values = [above / below for above, below in zip(of, to, strict=True)]
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def report(result: dict[str, Any], text: str, path: Path | None) -> None:
    """Print the table, and write every figure with a description of the machine."""
    print(text)
    if path:
        machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
        path.write_text(json.dumps(result | {"machine": machine}, indent=2) + "\n", encoding="utf-8")
