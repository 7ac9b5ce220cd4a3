"""What may happen to a long run, many times over: kills, signals, full and read-only disks, lost workers, heavy load.

Trainings and restorings run as the command does, each in a process that is forked from this one, which has imported all
packages: so a run is killed at its work and not at its imports. After each disturbance the run is begun again as its
user would, until it ends by itself; then every file must be that of an undisturbed run, bit for bit, and nothing else
may be left. --load measures many files, many frames, workers, long paths, no home, a clock that jumps, and two runs on
one output.

    python scripts/soak.py --kills 50 --signals 20 --disks 10 [--workers 5] [--dask 2] [--only restore] [--json FILE]
    python scripts/soak.py --load --files 10000 --frames 1000
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process with threads of its own cannot be forked

import numpy as np
import torch
from PIL import Image

from pssr2_monai.cli.main import main as command
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks import ResUNet
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import save_atomically

TRAINING = {"--tile": 32, "--batch_size": 8, "--precision": "float32", "--epochs": 3}
TRAINING |= {"--network_def#channels": "[8,16]", "--network_def#depth": 1, "--checkpoints#minutes": 0.005}
LEFTOVERS = (".part", ".journal", ".lock", ".restoring.json", ".partial")
DISK_MB = 8
Words = list[str]


@dataclass
class Case:
    """One kind of run: its words, given again after each disturbance, and the output that must come of it."""

    name: str
    words: Callable[[Path], Words]  # of a folder for the output
    output: str  # its name in that folder
    prepare: Callable[[Path], object] = lambda folder: None  # puts an old output there


@dataclass
class Result:
    """What became of the runs of one case."""

    fault: str
    case: str
    times: int = 0
    rounds: int = 0  # outputs that were completed and compared
    lost: int = 0  # runs that could not be resumed
    wrong: int = 0  # outputs that differ
    left: int = 0  # outputs with files left behind
    longest: float = 0.0  # seconds of one run
    memory_mb: float = 0.0  # of one run, at most
    notes: list[str] = field(default_factory=list)


class Child:
    """The command in a forked process."""

    def __init__(self, words: Words, log: Path, before: Callable[[], object] = lambda: None) -> None:
        sys.stdout.flush()
        self.began, self.status, self.usage = time.monotonic(), None, None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setpgid(0, 0)
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
                file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                for stream in (1, 2):
                    os.dup2(file, stream)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1)
                before()
                command(words)
            except SystemExit as end:
                sys.stderr.flush()
                os._exit(end.code if isinstance(end.code, int) else 1)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(99)
            os._exit(0)
        with suppress(OSError):
            os.setpgid(self.pid, self.pid)  # here, too: it may be killed before it has done so

    def wait(self, seconds: float = float("inf")) -> bool:
        """Whether it has ended within this time."""
        ends = time.monotonic() + seconds
        while self.status is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.status, self.usage = os.waitstatus_to_exitcode(status), usage
            elif time.monotonic() >= ends:
                return False
            else:
                time.sleep(0.005)
        return True

    def send(self, number: int, group: bool = False) -> None:
        if self.status is None:
            (os.killpg if group else os.kill)(self.pid, number)

    def note(self, result: Result) -> None:
        result.longest = max(result.longest, time.monotonic() - self.began)
        result.memory_mb = max(result.memory_mb, self.usage.ru_maxrss / 1024)


def content(path: Path) -> dict[str, Any]:
    """All bytes of an output; of a training the tensors, since files of torch hold their own names."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    found: dict[str, Any] = {}
    for file in files:
        name = str(file.relative_to(path)) if file != path else ""
        if "tensorboard" in name or name in ("run.json", "config.json") or name.endswith(LEFTOVERS):
            continue
        if file.suffix == ".pt":
            saved = torch.load(file, weights_only=True)
            found |= {f"{name}:{key}": tensor.numpy().tobytes() for key, tensor in saved["model"].items()}
            found[f"{name}:score"] = (saved.get("best_score"), saved.get("best_epoch"))
        else:
            found[name] = file.read_bytes()
    return found


def leftovers(folder: Path) -> list[str]:
    return [file.name for file in folder.rglob("*") if file.name.endswith(LEFTOVERS)]


class Soak:
    """Images, weights and cases in a folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.draw = folder, random.Random(seed)
        self.log = folder / "log"
        self.results: list[Result] = []
        self.scratch = folder / "out"
        rng = np.random.default_rng(seed)
        (folder / "hr").mkdir()
        for number in range(3):
            coarse = rng.integers(0, 256, (13, 13)).astype(np.uint8)
            Image.fromarray(coarse).resize((104, 104), Image.BICUBIC).save(folder / "hr" / f"cell_{number}.png")
        (folder / "scans").mkdir()
        for number in range(4):
            pixels = rng.integers(0, 256, (160, 60)).astype(np.uint8)
            write_image(folder / "scans" / f"{number}.tif", pixels, axes="YX", pixel_size={})
        pixels = rng.integers(0, 60000, (3, 800, 60)).astype(np.uint16)
        write_image(folder / "stack.tif", pixels, axes="ZYX", pixel_size={"Z": 0.1, "Y": 0.01, "X": 0.01})
        network = {"channels": [8, 16], "depth": 1, "scale": 2, "in_channels": 1, "out_channels": 1}
        torch.manual_seed(seed)
        self.weights = folder / "model.pt"
        record = Record({"_target_": "ResUNet", **network}, 2)
        save_atomically({"model": ResUNet(**network).state_dict(), "record": record.state_dict()}, self.weights)

    def cases(self, only: str) -> list[Case]:
        def restoring(source: str, output: str, *options: str) -> Callable[[Path], Words]:
            given = ["--weights", str(self.weights), "--device", "cpu", "--window", "64", *options]
            return lambda out: ["restore", str(self.folder / source), str(out / output), *given]

        def training(*options: str) -> Callable[[Path], Words]:
            def words(out: Path) -> Words:
                begin = ["train", str(self.folder / "hr"), "--out", str(out / "run")]
                if (out / "run" / "last.pt").exists():
                    return [*begin, "--resume"]
                return [*begin, "--device", "cpu", *(str(word) for pair in TRAINING.items() for word in pair), *options]

            return words

        def old(name: str) -> Callable[[Path], object]:
            image = np.full((40, 30), 7, np.uint8)
            return lambda out: write_image(out / name, image, axes="YX", pixel_size={})

        cases = [
            Case("train", training("--num_workers", "0"), "run"),
            Case("train, a loader process", training("--num_workers", "1"), "run"),
            Case("restore TIFF", restoring("stack.tif", "out.tif"), "out.tif"),
            Case("restore OME-Zarr", restoring("stack.tif", "out.ome.zarr"), "out.ome.zarr"),
            Case("restore a folder", restoring("scans", "restored"), "restored"),
            Case("restore --overwrite", restoring("stack.tif", "out.tif", "--overwrite"), "out.tif", old("out.tif")),
            Case(
                "restore --overwrite OME-Zarr",
                restoring("stack.tif", "out.ome.zarr", "--overwrite"),
                "out.ome.zarr",
                old("out.ome.zarr"),
            ),
            Case("restore --uncertainty", restoring("scans/0.tif", "out", "--uncertainty", "--overwrite"), "out"),
            Case("restore --fidelity", restoring("scans/0.tif", "out", "--fidelity", "--overwrite"), "out"),
        ]
        return [case for case in cases if only in case.name]

    def fresh(self, case: Case) -> Path:
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        case.prepare(self.scratch)
        return self.scratch

    def straight(self, case: Case) -> tuple[dict[str, Any], float]:
        """The output of an undisturbed run, and its seconds."""
        out = self.fresh(case)
        child = Child(case.words(out), self.log)
        child.wait()
        if child.status:
            raise SystemExit(f"{case.name}: failed undisturbed: {self.log.read_text()[-2000:]}")
        return content(out / case.output), time.monotonic() - child.began

    def compare(self, result: Result, case: Case, expected: dict[str, Any]) -> None:
        result.rounds += 1
        found = content(self.scratch / case.output)
        if found != expected:
            result.wrong += 1
            names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            result.notes.append(f"differs: {names[:4]}")
        if left := leftovers(self.scratch):
            result.left += 1
            result.notes.append(f"left: {left[:4]}")

    def disturbed(self, fault: str, case: Case, times: int, disturb: Callable[[Child], int | None]) -> None:
        """Disturb runs of a case so often; ``disturb`` returns the status that it must have, None for its own end."""
        expected, seconds = self.straight(case)
        result = Result(fault, case.name)
        self.results.append(result)
        self.fresh(case)
        ended = True
        while result.times < times or not ended:
            child = Child(case.words(self.scratch), self.log)
            ended = result.times >= times or child.wait(self.draw.uniform(0, seconds))
            status = 0
            if not ended:
                status = disturb(child)
                result.times += 1
            child.wait()
            child.note(result)
            # Maybe in spite of the disturbance, which came too late: after the last epoch was saved, or after all.
            ended = child.status == 0 or "epochs are done already" in self.log.read_text()
            if ended:
                self.compare(result, case, expected)
                self.fresh(case)
            elif child.status != status:
                result.lost += 1
                result.notes.append(f"status {child.status}: {self.log.read_text()[-300:]}")
                self.fresh(case)
        print(line(result), flush=True)

    def kill(self, child: Child) -> int:
        child.send(signal.SIGKILL, group=True)
        return -signal.SIGKILL

    def interrupt(self, child: Child) -> int:
        child.send(signal.SIGINT, group=True)
        return 130

    def terminate(self, child: Child) -> int:
        child.send(signal.SIGTERM, group=True)
        return 143

    def full_disk(self, case: Case, times: int) -> None:
        """Run on a disk that fills somewhere within the output; then make room."""
        expected, _ = self.straight(case)
        size = sum(file.stat().st_size for file in self.scratch.rglob("*") if file.is_file())
        result = Result("full disk", case.name)
        self.results.append(result)
        with disk(self.folder / "disk", DISK_MB) as mounted:
            self.scratch = mounted / "out"
            for _ in range(times):
                self.fresh(case)
                ballast = mounted / "ballast"
                room = int(self.draw.uniform(0.05, 0.95) * size)
                free = shutil.disk_usage(mounted).free
                ballast.write_bytes(bytes(max(0, free - room)))
                unchecked = Child(case.words(self.scratch), self.log, pretend_room)
                unchecked.wait()
                unchecked.note(result)
                result.times += unchecked.status != 0
                text = self.log.read_text()
                if unchecked.status not in (0, 1) or "Traceback" in text:
                    result.lost += 1
                    result.notes.append(f"status {unchecked.status}: {text[-300:]}")
                ballast.unlink()
                (self.finish if unchecked.status else self.compare)(result, case, expected)
        self.scratch = self.folder / "out"
        print(line(result), flush=True)

    def finish(self, result: Result, case: Case, expected: dict[str, Any]) -> None:
        """Give the command again, which must end by itself, and compare what there is then."""
        again = Child(case.words(self.scratch), self.log)
        again.wait()
        if again.status:
            result.lost += 1
            result.notes.append(self.log.read_text()[-300:])
        else:
            self.compare(result, case, expected)

    def read_only_disk(self, case: Case, times: int) -> None:
        """Interrupt a run, make the disk read-only, run, make it writable again, and resume."""
        expected, seconds = self.straight(case)
        result = Result("read-only disk", case.name)
        self.results.append(result)
        with disk(self.folder / "disk", DISK_MB) as mounted:
            self.scratch = mounted / "out"
            for _ in range(times):
                self.fresh(case)
                first = Child(case.words(self.scratch), self.log)
                if not first.wait(self.draw.uniform(0, seconds)):
                    first.send(signal.SIGKILL, group=True)
                first.wait()
                if first.status == 0:
                    self.fresh(case)
                before = content(self.scratch)
                subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
                child = Child(case.words(self.scratch), self.log)
                child.wait()
                child.note(result)
                subprocess.run(["mount", "-o", "remount,rw", str(mounted)], check=True)
                text = self.log.read_text()
                result.times += 1
                if child.status != 1 or "Traceback" in text or content(self.scratch) != before:
                    result.lost += 1
                    result.notes.append(f"status {child.status}: {text[-300:]}")
                self.finish(result, case, expected)
        self.scratch = self.folder / "out"
        print(line(result), flush=True)

    def lost_workers(self, times: int) -> None:
        """Kill one of two worker processes at random moments; they are spawned, and so import all packages."""
        case = next(case for case in self.cases("") if case.name == "restore OME-Zarr")
        expected, _ = self.straight(case)
        result = Result("kill -9 of a worker", "restore OME-Zarr --workers 2")
        self.results.append(result)
        self.fresh(case)
        while result.times < times:
            words = [*case.words(self.scratch), "--workers", "2"]
            child = Child(words, self.log, lambda: patch_shared_pixels(0))
            journal = self.scratch / "out.ome.zarr.journal"
            noted = journal.stat().st_size if journal.exists() else 0
            while not child.wait(0.01) and not (journal.exists() and journal.stat().st_size > noted):
                pass
            if child.status is None:
                workers = [pid for pid in children(child.pid) if "spawn_main" in command_line(pid)]
                time.sleep(self.draw.uniform(0, 0.2))
                for pid in workers[-1:]:
                    os.kill(pid, signal.SIGKILL)
                result.times += bool(workers)
            child.wait()
            child.note(result)
            if child.status == 0:
                self.compare(result, case, expected)
                self.fresh(case)
            elif child.status != 1 or "a worker process was killed" not in self.log.read_text():
                result.lost += 1
                result.notes.append(f"status {child.status}: {self.log.read_text()[-300:]}")
        child = Child(case.words(self.scratch), self.log)
        child.wait()
        self.compare(result, case, expected)
        print(line(result), flush=True)

    def lost_dask_worker(self, times: int) -> None:
        """Kill one of two Dask workers: its items are given to the other, and the run ends by itself."""
        from distributed import LocalCluster

        case = next(case for case in self.cases("") if case.name == "restore OME-Zarr")
        expected, _ = self.straight(case)
        result = Result("kill -9 of a Dask worker", "restore OME-Zarr --scheduler")
        self.results.append(result)
        options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
        with LocalCluster(**options, silence_logs="CRITICAL") as cluster:
            for _ in range(times):
                self.fresh(case)
                words = [*case.words(self.scratch), "--scheduler", cluster.scheduler_address]
                words = [word for word in words if word not in ("--device", "cpu")]
                code = "from pssr2_monai.cli.main import main; from pssr2_monai.restoration import restore as r; "
                code += "r.restore_prepared.__defaults__ = (None, 0); main()"
                with self.log.open("w") as log:
                    running = subprocess.Popen([sys.executable, "-c", code, *words], stdout=log, stderr=log)
                journal = self.scratch / "out.ome.zarr.journal"
                began = time.monotonic()
                while running.poll() is None and not journal.exists():
                    time.sleep(0.01)
                pids = [worker.pid for worker in cluster.workers.values() if worker.pid]
                if running.poll() is None and pids:
                    os.kill(self.draw.choice(pids), signal.SIGKILL)
                    result.times += 1
                if running.wait():
                    result.lost += 1
                    result.notes.append(self.log.read_text()[-300:])
                else:
                    self.compare(result, case, expected)
                result.longest = max(result.longest, time.monotonic() - began)
        print(line(result), flush=True)


def patch_shared_pixels(pixels: int) -> None:
    """Let workers share even small images."""
    import importlib

    module = importlib.import_module("pssr2_monai.restoration.restore")
    module.restore_prepared.__defaults__ = (None, pixels)


def pretend_room() -> None:
    """Let the disk fill after it was asked for room, and not before."""
    usage = shutil.disk_usage
    shutil.disk_usage = lambda path: type(usage(path))(2**50, 0, 2**50)


def children(pid: int) -> list[int]:
    """The processes that descend from one."""
    own = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [number for child in own for number in (child, *children(child))]


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


@contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A small disk, which the superuser alone can mount."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def line(result: Result) -> str:
    cells = (result.fault, result.case, result.times, result.rounds, result.lost, result.wrong, result.left)
    figures = f"{result.longest:.1f} s | {result.memory_mb:.0f} MB"
    notes = "".join(f"\n    {note}" for note in result.notes[:5])
    return f"| {' | '.join(map(str, cells))} | {figures} |{notes}"


def timed(words: Words, log: Path, before: Callable[[], object] = lambda: None) -> tuple[float, float, int, str]:
    """Seconds, megabytes at most, exit status and log of one run."""
    child = Child(words, log, before)
    child.wait()
    return time.monotonic() - child.began, child.usage.ru_maxrss / 1024, child.status, log.read_text()


def jumping_clock() -> None:
    """Let the clock of the day jump by up to a day at each look; monotonic clocks stay what they are."""
    clock, draw = time.time, random.Random(0)
    time.time = lambda: clock() + draw.uniform(-86400, 86400)


def without_home() -> None:
    for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME"):
        os.environ.pop(name, None)


def load(soak: Soak, files: int, frames: int, worker_files: int) -> None:
    """Measure heavy loads and odd surroundings; print a line for each."""
    folder, log = soak.folder, soak.log
    end = ["--weights", str(soak.weights), "--device", "cpu", "--window", "64"]
    rng = np.random.default_rng(0)

    def report(name: str, words: Words, outputs: Path, expected: int, **options: Any) -> None:
        seconds, megabytes, status, text = timed(words, log, **options)
        written = len([file for file in outputs.iterdir() if not file.name.endswith(LEFTOVERS)]) if status == 0 else 0
        each = f"{1000 * seconds / expected:.1f} ms each"
        print(
            f"| {name} | {expected} | {expected - written} | {seconds:.1f} s, {each} | {megabytes:.0f} MB |", flush=True
        )
        if status or written != expected or leftovers(outputs):
            print(f"    status {status}, left {leftovers(outputs)[:3]}: {text[-500:]}")

    many = folder / "many"
    many.mkdir()
    for number in range(files):
        Image.fromarray(rng.integers(0, 256, (16, 16)).astype(np.uint8)).save(many / f"{number:05}.png")
    report(
        "small files in a folder", ["restore", str(many), str(folder / "many_out"), *end], folder / "many_out", files
    )
    few = folder / "few"
    few.mkdir()
    for file in sorted(many.iterdir())[:worker_files]:
        shutil.copy(file, few)
    words = ["restore", str(few), str(folder / "few_out"), *end, "--workers", "4"]
    report("files by 4 workers", words, folder / "few_out", worker_files)
    stack = rng.integers(0, 256, (frames, 32, 32)).astype(np.uint8)
    write_image(folder / "frames.tif", stack, axes="TYX", pixel_size={})
    (folder / "frames").mkdir()
    words = ["restore", str(folder / "frames.tif"), str(folder / "frames" / "out.tif"), *end]
    report(f"stack of {frames} frames", words, folder / "frames", 1)
    deep = folder.joinpath(*["d" * 40] * 8)
    deep = Path(str(deep)[: 250 - len("/out.tif")].rstrip("/"))
    deep.mkdir(parents=True)
    one = str(folder / "scans" / "0.tif")
    report("path of 250 characters", ["restore", one, str(deep / "out.tif"), *end], deep, 1)
    for name, before in (("no home folder", without_home), ("a clock that jumps", jumping_clock)):
        out = folder / name.replace(" ", "_")
        out.mkdir()
        report(f"restoring, {name}", ["restore", one, str(out / "out.tif"), *end], out, 1, before=before)
        options = [str(word) for pair in TRAINING.items() for word in pair]
        words = ["train", str(folder / "hr"), "--out", str(out / "run"), "--device", "cpu", *options]
        seconds, megabytes, status, text = timed(words, log, before)
        print(f"| training, {name} | 1 | {int(status != 0)} | {seconds:.1f} s | {megabytes:.0f} MB |", flush=True)
        if status:
            print(f"    status {status}: {text[-500:]}")
    two_at_once(soak, end)


def two_at_once(soak: Soak, end: Words) -> None:
    """Begin two runs on one output at once: one of them is refused, or both end, and the output is right."""
    expected, _ = soak.straight(next(case for case in soak.cases("") if case.name == "restore TIFF"))
    wrong = refused = 0
    for number in range(5):
        target = soak.folder / f"two_{number}" / "out.tif"
        target.parent.mkdir()
        words = ["restore", str(soak.folder / "stack.tif"), str(target), *end]
        others = [word if word != "64" else "96" for word in words] if number % 2 else words
        first = Child([*words, "--overwrite"], soak.folder / "log_1")
        time.sleep(soak.draw.uniform(0, 0.2))
        second = Child([*others, "--overwrite"], soak.folder / "log_2")
        first.wait(), second.wait()
        refused += (first.status != 0) + (second.status != 0)
        right = content(target) == expected or (number % 2 and second.status == 0)
        wrong += not (right and {first.status, second.status} <= {0, 1} and not leftovers(target.parent))
    print(f"| two runs on one output | 5 | {wrong} | {refused} refused | |", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, count in (("kills", 50), ("signals", 20), ("disks", 10), ("workers", 0), ("dask", 0)):
        parser.add_argument(f"--{name}", type=int, default=count, help=f"times for each case; {count} by default")
    parser.add_argument("--only", default="", help="part of the names of the cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--load", action="store_true", help="measure heavy loads instead")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=1_000)
    parser.add_argument("--worker-files", type=int, default=100)
    return parser.parse_args()


def preload() -> None:
    """Import what the command imports when it needs it."""
    import importlib

    names = ("training.train", "restoration.restore", "fidelity.maps", "images.formats.tiff", "images.formats.omezarr")
    for name in [*(f"pssr2_monai.{name}" for name in names), "torch.utils.tensorboard", "monai.engines", "itk"]:
        importlib.import_module(name)


def run(options: argparse.Namespace, folder: Path) -> int:
    preload()
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    soak = Soak(folder, options.seed)
    if options.load:
        print("| load | outputs | lost or wrong | time | memory |\n|---|---|---|---|---|")
        load(soak, options.files, options.frames, options.worker_files)
        return 0
    print("| fault | run | times | outputs compared | lost | wrong | files left | longest run | memory |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in soak.cases(options.only):
        faults = (("kill -9", options.kills, soak.kill), ("SIGINT", options.signals, soak.interrupt))
        for fault, times, disturb in (*faults, ("SIGTERM", options.signals, soak.terminate)):
            if times:
                soak.disturbed(fault, case, times, disturb)
        if options.disks and os.geteuid() == 0:
            soak.full_disk(case, options.disks)
            soak.read_only_disk(case, options.disks)
    if options.workers:
        soak.lost_workers(options.workers)
    if options.dask:
        soak.lost_dask_worker(options.dask)
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in soak.results], indent=1))
    return int(any(result.lost or result.wrong or result.left for result in soak.results))


if __name__ == "__main__":
    given = arguments()
    if given.folder is None:
        with tempfile.TemporaryDirectory(prefix="soak") as temporary:
            sys.exit(run(given, Path(temporary)))
    given.folder.mkdir(parents=True)
    sys.exit(run(given, given.folder))
