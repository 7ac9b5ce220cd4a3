"""Benchmarks whose rivals take turns (A B A B ...) in processes of their own, so that other load affects all alike.

A benchmark runs itself once for each rival, with ``--worker NAME``; the worker prepares, and iterates over ``laps``.
What other programs used of the cores meanwhile is measured; where that was much, no ratio is printed unless ``--busy``
is given. ``--kernels`` names the kernels of oneDNN that each rival computes with.
This module imports only the standard library, since the original package has an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
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
QUIET = 0.15  # cores that other programs may use on average while the rivals have their turns
BINDING = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY")
VERBOSE = re.compile(r"onednn_verbose,(?:v\d,)?(?:primitive,)?exec,\w+,([^,]+),([^,]+),([^,]+),.*,([\d.]+)$")


def add_options(parser: argparse.ArgumentParser, rounds: int = 5, threads: int = 1) -> None:
    """Add the options that all benchmarks share."""
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each rival, after one for warming up")
    parser.add_argument("--threads", type=int, default=threads, help="compute threads")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--pssr-python", metavar="PATH", help="a Python that has pssr 2.4.0, else one is installed")
    parser.add_argument("--without-pssr", action="store_true", help="leave the original out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure here")
    parser.add_argument("--busy", action="store_true", help="print ratios although other programs use the cores")
    parser.add_argument("--kernels", action="store_true", help="list the kernels of oneDNN, from one turn more")
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
    script: str,
    pythons: Mapping[str, str],
    arguments: Sequence[str],
    rounds: int,
    options: argparse.Namespace,
) -> dict[str, dict[str, Any]]:
    """Return each rival's first figures, and round by round its CPU and wall seconds and its peak memory.

    ``others`` are the cores that other programs used on average during the rival's turns.

    Args:
        script: the benchmark.
        pythons: the Python that runs each rival.
        arguments: arguments of all workers.
        rounds: turns of each rival.
        options: those of ``add_options``.

    Raises:
        SystemExit: a worker ended early, or other programs used the cores meanwhile, and ``--busy`` was not given.
    """
    # Waiting threads must not spin while another rival has its turn.
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": "passive"}
    end = ["--threads", str(options.threads), *arguments]
    commands = {name: [python, str(Path(script).resolve()), "--worker", name, *end] for name, python in pythons.items()}
    workers: dict[str, subprocess.Popen[str]] = {}
    rivals: dict[str, dict[str, Any]] = {}
    try:
        for name, command in commands.items():
            workers[name] = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            rivals[name] = _answer(workers[name], name) | {figure: [] for figure in (*FIGURES, "others")}
        for _ in range(rounds):
            for name, worker in workers.items():
                assert worker.stdin is not None
                before = _times(worker.pid)
                print("go", file=worker.stdin, flush=True)
                answer = _answer(worker, name)
                rivals[name]["others"].append(_cores_between(before, _times(worker.pid)))
                for figure in FIGURES:
                    rivals[name][figure].append(answer[figure])
    finally:
        for worker in workers.values():
            worker.communicate()
    load = max((statistics.mean(rival["others"]) for rival in rivals.values() if rival["others"]), default=0.0)
    if load > QUIET and not options.busy:
        sys.exit(
            f"other programs used {load:.2f} cores while the rivals had their turns, so that their ratios mean little; "
            "stop these programs, or give --busy"
        )
    if rounds and options.kernels:
        for name, command in commands.items():
            rivals[name]["kernels"] = _kernels(command, environment)
    return rivals


def _times(pid: int) -> tuple[float, float, float] | None:
    """The time, the seconds for which all programs used this process's cores, and those of a process and its own.

    None elsewhere than on Linux.
    """
    if not Path("/proc/stat").is_file():
        return None
    from pssr2_monai.machine import busy_seconds  # not in the environment of the original, where nothing is measured

    used: dict[int, tuple[int, int]] = {}  # the parent of each process, and its ticks
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        used[int(file.parent.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    family, more = {pid}, True
    while more:
        more = {child for child, (parent, _) in used.items() if parent in family} - family
        family |= more
    own = sum(used[member][1] for member in family if member in used) / os.sysconf("SC_CLK_TCK")
    return time.perf_counter(), busy_seconds(), own


def _cores_between(before: tuple[float, float, float] | None, after: tuple[float, float, float] | None) -> float:
    """The cores that programs other than the worker used on average; not a number where it is not known."""
    if before is None or after is None:
        return float("nan")
    wall, busy, own = (late - early for early, late in zip(before, after, strict=True))
    return max(0.0, (busy - own) / max(wall, 1e-9))


def _kernels(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, float]:
    """The milliseconds of each kernel of oneDNN in the preparation and one turn of a worker, the slowest first."""
    verbose = {**environment, "ONEDNN_VERBOSE": "1"}
    lines = subprocess.run(command, input="go\n", env=verbose, stdout=subprocess.PIPE, text=True, check=False).stdout
    return kernels_of(lines)


def kernels_of(lines: str) -> dict[str, float]:
    """Add up the lines of ``ONEDNN_VERBOSE``: milliseconds by primitive, direction and kernel, the most first."""
    milliseconds: dict[str, float] = {}
    for primitive, kernel, direction, taken in (
        found.groups() for found in map(VERBOSE.match, lines.splitlines()) if found
    ):
        name = f"{primitive} {direction} {kernel}"
        milliseconds[name] = milliseconds.get(name, 0.0) + float(taken)
    return dict(sorted(milliseconds.items(), key=lambda item: -item[1]))


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


def conditions(rivals: Mapping[str, Mapping[str, Any]]) -> str:
    """The load, the binding of threads, and the kernels, as lines of text."""
    variables = " ".join(f"{name}={os.environ[name]}" for name in BINDING if name in os.environ) or "none"
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    lines = [f"cores {','.join(map(str, cores))}; variables of threads outside the turns: {variables}"]
    for name, rival in rivals.items():
        if rival.get("others"):
            lines.append(f"{name}: other programs used {statistics.mean(rival['others']):.2f} cores")
        lines += [f"  {taken:10.1f} ms  {kernel}" for kernel, taken in list(rival.get("kernels", {}).items())[:12]]
    return "\n".join(lines)


def report(result: dict[str, Any], text: str, path: Path | None) -> None:
    """Print the table, and write every figure with a description of the machine."""
    print(text)
    if rivals := result.get("rivals"):
        print(conditions(rivals))
    if path:
        machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
        path.write_text(json.dumps(result | {"machine": machine}, indent=2) + "\n", encoding="utf-8")
