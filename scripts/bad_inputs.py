"""Try ``info``, ``restore`` and ``train --dry-run`` on hundreds of damaged and hostile files, and count the outcomes.

Each case runs in a worker process that runs many: its peak memory and time are measured, and what it prints is read.
Exit status 1 if any case crashed, hung, took more than 1 GiB, showed a raw error, or gave pixels that the file does not
hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing as mp
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from bad_files import Case, all_cases, nrrd_header
from PIL import Image

SECONDS, PEAK_MB, MOST_MB = 10, 1024, 8192
IDLE_MB = 780  # of a process that has loaded what a training needs, the greatest of the three
VERBS = ("info", "restore", "train")
GOOD = ("refused clearly", "read rightly", "as stored")
BAD = ("silently wrong", "raw error", "crash", "hang", "over 1 GiB", "refused, but whole")
ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data", help="folder of real images")
    parser.add_argument("--only", default="", help="pattern that FORMAT / KIND / NAME of a case has to contain")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth of the cases")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result here")
    parser.add_argument(
        "--failures", type=Path, default=Path("bad_inputs_failures.txt"), help="where cases that fail are listed"
    )
    parser.add_argument("--keep", type=Path, help="write the files of the cases into this folder and keep them")
    options = parser.parse_args()
    began = time.monotonic()
    wanted = [
        case
        for case in all_cases(options.shared)
        if re.search(options.only, f"{case.format} / {case.kind} / {case.name}")
    ]
    wanted = wanted[:: options.every]
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        weights = make_weights(folder / "weights.pt")
        options.failures.write_text("")
        results = list(run_all(wanted, folder, weights, bool(options.keep), options.failures))
    report(results, options.failures)
    print(f"{time.monotonic() - began:.0f} s in all", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return int(any(result["outcome"] in BAD for result in results))


def make_weights(path: Path) -> Path:
    """A network of one small convolution at scale 1, whose weights do not matter here."""
    import torch

    from pssr2_monai.networks.record import Record
    from pssr2_monai.networks.resunet import ResUNet
    from pssr2_monai.networks.weights import save_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    arguments = {"in_channels": 1, "out_channels": 1, "channels": [4, 8], "scale": 1, "depth": 1}
    network = ResUNet(**arguments)
    record = Record({"_target_": "ResUNet", **arguments}, 1)
    save_atomically({"model": network.state_dict(), "record": record.state_dict()}, path)
    return path


# --------------------------------------------------------------------------------------------- the parent process


def run_all(cases: list[Case], folder: Path, weights: Path, keep: bool, failures: Path) -> Iterator[dict[str, object]]:
    worker = Worker(weights)
    for number, case in enumerate(cases):
        place = folder / f"{number:04d}"
        (place / "case").mkdir(parents=True)
        path = case.make(place / "case")
        result: dict[str, object] = {"format": case.format, "kind": case.kind, "name": case.name, "verbs": {}}
        for verb in VERBS:
            result["verbs"][verb] = worker.run(verb, path, place / "out", case)  # type: ignore[index]
        outcomes = [entry["outcome"] for entry in result["verbs"].values()]  # type: ignore[attr-defined]
        result["outcome"] = (
            max(outcomes, key=(*GOOD[::-1], *BAD[::-1]).index) if set(outcomes) & set(BAD) else outcomes[1]
        )
        if result["outcome"] in BAD:
            with failures.open("a") as file:
                file.write(described(result))
        yield result
        if number % 50 == 0:
            print(f"{number} of {len(cases)}", file=sys.stderr)
        if not keep:
            with contextlib.suppress(OSError):
                shutil.rmtree(place)
    worker.stop()


PRELOADED = ("pssr2_monai.cli.main", "pssr2_monai.training.train", "pssr2_monai.restoration.restore", "bad_files")


class Worker:
    """A process that runs commands until one of them ends it or takes too long."""

    def __init__(self, weights: Path) -> None:
        self.weights = weights
        self.context = mp.get_context("forkserver")  # whose processes begin with everything loaded
        self.context.set_forkserver_preload([*PRELOADED])
        self.start()

    def start(self) -> None:
        self.end, child = mp.Pipe()
        self.process = self.context.Process(target=work, args=(child, self.weights), daemon=True)
        self.process.start()
        child.close()
        self.end.recv()  # ready

    def stop(self) -> None:
        self.process.kill()
        self.process.join()

    def run(self, verb: str, path: Path, out: Path, case: Case) -> dict[str, object]:
        self.end.send((verb, path, out, case.pixels, case.stored))
        clock = Clock(self.process.pid)
        try:
            while not (answered := self.end.poll(1)) and not clock.is_over():
                pass
            answer = self.end.recv() if answered else {"outcome": "hang", "text": ""}
        except (EOFError, ConnectionError):
            self.process.join()
            answer, answered = {"outcome": "crash", "text": f"exit status {self.process.exitcode}"}, False
        if not answered:
            self.stop()
            self.start()
        return {"seconds": clock.seconds()} | answer


class Clock:
    """The time of a command: of its processor, since others share the machine, or, where it sleeps, of the wall."""

    def __init__(self, pid: int | None) -> None:
        self.pid, self.began = pid, time.monotonic()
        self.first = self.last = self._processor()
        self.busy_until = self.began

    def seconds(self) -> float:
        return max(self.last - self.first, time.monotonic() - self.busy_until)

    def is_over(self) -> bool:
        now = self._processor()
        if now != self.last or self._is_running():
            self.last, self.busy_until = now, time.monotonic()
        return self.seconds() > SECONDS

    def _fields(self) -> list[str]:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()

    def _processor(self) -> float:
        return sum(int(field) for field in self._fields()[11:13]) / os.sysconf("SC_CLK_TCK")

    def _is_running(self) -> bool:
        return self._fields()[0] == "R"


# --------------------------------------------------------------------------------------------- the worker processes


def work(end: Connection, weights: Path) -> None:
    """Answer each command with its outcome, its peak memory and what it printed."""
    os.environ["OMP_NUM_THREADS"] = "1"
    from pssr2_monai.cli import main as command

    command.keep_memory = lambda: None
    scratch = Path(tempfile.mkdtemp())
    Image.fromarray(np.eye(64, dtype=np.uint8) * 200).save(scratch / "a.png")
    header = nrrd_header((64, 64), kind="uchar") + b"\n"
    (scratch / "a.nrrd").write_bytes(header + np.eye(64, dtype=np.uint8).tobytes())
    for verb, name in (("info", "a.nrrd"), *((verb, "a.png") for verb in VERBS)):  # load everything
        call(command.main, words(verb, scratch / name, scratch / "out", weights))
    shutil.rmtree(scratch)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_MB * 2**20, used + MOST_MB * 2**20))
    end.send("ready")
    while True:
        verb, path, out, pixels, stored = end.recv()
        Path("/proc/self/clear_refs").write_text("5")  # begin a new peak
        idle = memory_mb("VmRSS")
        began = time.process_time()
        status, text = call(command.main, words(verb, path, out, weights))
        seconds = time.process_time() - began
        outcome = judge(verb, status, text, path, out, pixels, stored)
        peak = IDLE_MB + memory_mb("VmHWM") - idle
        if peak > PEAK_MB or "out of memory" in text or "Unable to allocate" in text or "MemoryError" in text:
            outcome = "over 1 GiB"
        end.send({"outcome": outcome, "text": text[-1500:], "MB": peak, "seconds": seconds})


def words(verb: str, path: Path, out: Path, weights: Path) -> list[str]:
    if verb == "info":
        return ["info", str(path)]
    if verb == "restore":
        return ["restore", str(path), str(out.with_name("restored.tif")), "--weights", str(weights), "--overwrite"]
    return ["train", str(path.parent), "--out", str(out), "--scale", "1", "--tile", "16", "--dry-run"]


def memory_mb(kind: str) -> float:
    return int(Path("/proc/self/status").read_text().split(f"{kind}:")[1].split()[0]) / 1024


def call(function, argv: list[str]) -> tuple[object, str]:  # type: ignore[no-untyped-def]
    """The exit status of a command, and all that it wrote to the two outputs, libraries in C among it."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(1), os.dup(2)
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            function(argv)
            status: object = 0
        except SystemExit as error:
            status = error.code
        except BaseException as error:  # which the command should not let pass
            status = repr(error)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)
        file.seek(0)
        return status, file.read().decode("utf-8", "replace")


def judge(verb: str, status: object, text: str, path: Path, out: Path, pixels: np.ndarray | None, stored: bool) -> str:
    """The outcome of a command by its exit status, its message, and the pixels that are read."""
    lines = text.strip().splitlines()
    if status != 0:
        folders = [path.parent, *([path] if path.is_dir() else [])]
        names = {path.parent.name, *(file.name for folder in folders for file in folder.iterdir())}
        is_named = any(printable(name) in lines[-1] for name in names) if lines else False
        is_clear = status in (1, 2) and is_named and lines[-1].startswith("pssr2: ") and len(lines) <= 3
        if "Traceback" in text or "--debug" in text or not is_clear:
            return "raw error"
        return "refused clearly"
    if verb != "restore":
        return "read rightly"
    from pssr2_monai.images.image import open_image

    with open_image(path) as image:
        found = image.read()
    if pixels is not None and np.array_equal(found.squeeze(), pixels.squeeze()):
        return "read rightly"
    whole = pixels is not None and (found.size <= pixels.size or found.shape[:2] == pixels.shape[:2])  # a palette
    if stored and (pixels is None or whole or rows_in(found, path)):
        return "as stored"
    return "silently wrong"


def rows_in(found: np.ndarray, path: Path) -> bool:
    """Whether each row of an image is in its file or, of a folder, in one of its files, as it is stored there."""
    files = [path, *path.parent.iterdir()]
    content = b"".join(file.read_bytes() for file in files if file.is_file() and file.stat().st_size < 2**24)
    rows = found.reshape(-1, found.shape[-1])
    return all(row.tobytes() in content or row.byteswap().tobytes() in content for row in rows)


def printable(name: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in name)


# ------------------------------------------------------------------------------------------------------ the report


def report(results: list[dict[str, object]], failures: Path) -> None:
    columns = [*GOOD, *BAD]
    print(f"| kind | cases | {' | '.join(columns)} | MB at most | s at most |\n|{'---|' * (len(columns) + 4)}")
    kinds = list(dict.fromkeys(str(result["kind"]) for result in results))
    for kind in [*kinds, "all"]:
        rows = [result for result in results if kind in ("all", result["kind"])]
        counts = Counter(result["outcome"] for result in rows)
        verbs = [entry for result in rows for entry in result["verbs"].values()]  # type: ignore[attr-defined]
        most = max(entry.get("MB", 0) for entry in verbs), max(entry["seconds"] for entry in verbs)
        cells = " | ".join(str(counts[column]) for column in columns)
        print(f"| {kind} | {len(rows)} | {cells} | {most[0]:.0f} | {most[1]:.1f} |")
    bad = [result for result in results if result["outcome"] in BAD]
    print(f"{len(bad)} of {len(results)} cases fail" + (f"; see {failures}" if bad else ""), file=sys.stderr)


def described(result: dict[str, object]) -> str:
    """A case that fails: what each command came to, and the end of what it printed."""
    lines = [f"{result['outcome']}: {result['format']} / {result['kind']} / {result['name']}"]
    for verb, entry in result["verbs"].items():  # type: ignore[attr-defined]
        text = " // ".join(entry["text"].strip().splitlines()[-4:])[-400:]
        lines.append(f"    {verb:8}{entry['outcome']:16}{entry['seconds']:5.1f} s {entry.get('MB', 0):6.0f} MB  {text}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
