"""Fixtures that every test may use."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

# Two test processes on two cores must not spin against each other; read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

import hypothesis
import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

from pssr2_monai import machine

# One process runs all tests: it must give back what each of them freed.
machine.keep_memory = lambda: None
# A process started by vfork from this large one was seen to end it; a fork is slower and was not.
subprocess._USE_VFORK = False

# Processes are forked from one that has imported the package: each that imports it anew takes ten seconds to do so.
FORKS = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
if hasattr(os, "fork"):
    FORKS.set_forkserver_preload(
        ["monai.bundle", "torch._dynamo", "pssr2_monai.evaluation.evaluate", "pssr2_monai.training.train"]
    )

# The same few examples each time; or so many others: PSSR2_EXAMPLES=5000 pytest tests/images
EXAMPLES = int(os.environ.get("PSSR2_EXAMPLES", "0"))
hypothesis.settings.register_profile(
    "tests",
    max_examples=EXAMPLES or 50,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tests")

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let processes that share the tests begin with the files of slow ones, so that none waits for another's last."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the project; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real images of ../shared/data are not here")
    return SHARED_DATA


@pytest.fixture(scope="session")
def wavy_pair() -> Callable[[int, int], tuple[np.ndarray, np.ndarray]]:
    """A function that computes an image and its target, of a height and a width, from which stored scores are."""

    def draw(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        y, x = np.mgrid[:height, :width].astype(float)
        checks = np.sin(x / 17) * np.sin(y / 23)
        target = 0.5 + 0.25 * np.sin(x / 3 + np.sin(y / 9)) * np.cos(y / 5) + 0.2 * np.sign(checks)
        image = 0.45 + 0.2 * np.sin(x / 3 + 0.3 + np.sin(y / 9)) * np.cos(y / 5) + 0.15 * np.tanh(4 * checks)
        return (image + 0.04 * np.sin(1.7 * x * y)).astype(np.float32), target.astype(np.float32)

    return draw


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder that holds bundle/ and configs/."""
    return ROOT


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """A function that imports a file of scripts/ by its name."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


RUN = """
import os, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
os.chdir(cwd)
os.environ.clear()
os.environ.update(environment)
import torch
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))  # the variable is read before this process begins
for number, path in enumerate(files, 1):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
if words[0] == "-m":
    sys.argv = words[1:]
    runpy.run_module(words[1], run_name="__main__", alter_sys=True)
else:
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
"""


@dataclass(frozen=True)
class PythonProcess:
    """A process that runs a module or a script."""

    process: BaseProcess
    files: tuple[Path, Path]  # of its output, and of its messages

    @property
    def stdout(self) -> str:
        return self.files[0].read_text(encoding="utf-8") if self.files[0].exists() else ""

    @property
    def stderr(self) -> str:
        return self.files[1].read_text(encoding="utf-8") if self.files[1].exists() else ""

    @property
    def runs(self) -> bool:
        return self.process.is_alive()

    def wait_for(self, condition: Callable[[], object], seconds: float = 120) -> None:
        """Wait until something is so, or the process has ended."""
        end = time.monotonic() + seconds
        while self.runs and not condition():
            assert time.monotonic() < end, self.stderr
            time.sleep(0.002)

    def interrupt(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def end(self, seconds: float = 240) -> int:
        """Wait for the end and return the exit status."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, self.stderr
        return self.process.exitcode


@pytest.fixture
def run_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., PythonProcess]]:
    """A function that runs ``python WORDS``, of a module (``-m NAME``) or a script, in a process of its own."""
    processes: list[BaseProcess] = []

    def run(*words: object, cwd: Path | None = None, **environment: str) -> PythonProcess:
        folder = tmp_path_factory.mktemp("output")
        files = (folder / "stdout", folder / "stderr")
        settings = {
            "words": [str(word) for word in words],
            "cwd": str(cwd or Path.cwd()),
            "environment": os.environ | environment,
            "files": [str(file) for file in files],
        }
        process = FORKS.Process(target=exec, args=(RUN, settings))
        process.start()
        processes.append(process)
        return PythonProcess(process, files)

    yield run
    for process in processes:
        process.kill()
        process.join()


@pytest.fixture
def run_two_ranks(run_python: Callable[..., PythonProcess]) -> Callable[..., list[PythonProcess]]:
    """A function that runs ``python WORDS`` in two processes, with the environment that torchrun gives them."""
    import torch

    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    shared |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def run(*words: object) -> list[PythonProcess]:
        assert store.port
        return [run_python(*words, **shared, RANK=rank, LOCAL_RANK=rank) for rank in ("0", "1")]

    return run


@pytest.fixture(scope="module")
def forked_workers() -> Iterator[None]:
    """Worker processes of restoring, and of Dask, are forked from one that has imported the package, not begun anew."""
    with pytest.MonkeyPatch.context() as patched:
        if hasattr(os, "fork"):
            multiprocessing.forkserver.ensure_running()
        patched.setattr(multiprocessing, "get_context", lambda method=None: FORKS)
        yield


@pytest.fixture(scope="session")
def hr_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five 8-bit images of 96 x 112 pixels with structure at several sizes."""
    folder = tmp_path_factory.mktemp("hr")
    for number in range(5):
        noise = np.random.default_rng(number).normal(size=(96, 112))
        image = sum(gaussian_filter(noise, sigma) * sigma for sigma in (1, 2, 4))
        levels = 128 + 60 * image / np.abs(image).max()
        Image.fromarray(levels.round().astype(np.uint8)).save(folder / f"cell_{number}.png")
    return folder


@pytest.fixture(scope="session")
def tiny_options() -> Iterator[dict[str, object]]:
    """Config overrides that make a training of less than a second, of which drawing its noise would take half.

    All such trainings show the picture of the first one's noise.
    """
    from pssr2_monai.training import tensorboard

    draw, pictures = tensorboard.picture_of_noise, []

    def first_picture(*arguments: Any) -> Image.Image:
        if not pictures:
            pictures.append(draw(*arguments))
        return pictures[0]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tensorboard, "picture_of_noise", first_picture)
        yield {
            "tile": 32,
            "batch_size": 8,
            "num_workers": 0,
            "precision": "float32",
            "network_def#channels": [8, 16],
            "network_def#depth": 1,
        }


@pytest.fixture(scope="session")
def tiny_weights(hr_folder: Path, tiny_options: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small 4x ResUNet after two epochs on `hr_folder`."""
    from pssr2_monai.training.train import train

    return train(hr_folder, tmp_path_factory.mktemp("run") / "run", epochs=2, **tiny_options)


@pytest.fixture(scope="session")
def write_ome_set() -> Callable[..., list[Path]]:
    """A function that writes a ZYX stack as an OME-TIFF set of one plane a file and returns the files."""

    def write(
        folder: Path, stack: np.ndarray, names: Sequence[str] = (), layouts: Sequence[Mapping[str, Any]] = ()
    ) -> list[Path]:
        folder.mkdir(exist_ok=True)
        names = names or [f"z{z}.ome.tif" for z in range(len(stack))]
        depth, height, width = stack.shape
        places = "".join(
            f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{name}</UUID></TiffData>'
            for z, name in enumerate(names)
        )
        for name, plane, layout in zip(names, stack, layouts or [{}] * depth, strict=True):
            xml = (
                '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
                f'UUID="urn:uuid:{name}"><Image ID="Image:0" Name="stack"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
                f'Type="{stack.dtype}" SizeX="{width}" SizeY="{height}" SizeZ="{depth}" SizeC="1" SizeT="1">'
                f'<Channel ID="Channel:0" SamplesPerPixel="1"/>{places}</Pixels></Image></OME>'
            )
            tifffile.imwrite(folder / name, plane, description=xml, metadata=None, **layout)
        return [folder / name for name in names]

    return write
