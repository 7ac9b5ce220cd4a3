"""Sharing the work: the same file from one process, from several, from a cluster, and from one that loses a worker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pssr2_monai.cli.main import main
from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks import ResUNet
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights, save_atomically
from pssr2_monai.restoration import engines
from pssr2_monai.restoration.engines import open_engine
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.journal import Journal, Unfinished
from pssr2_monai.restoration.options import RestoreOptions
from pssr2_monai.restoration.restore import restore
from pssr2_monai.restoration.restore_file import FileRestorer

INFERER = SeamlessInferer(64, precision="float32")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As the workers have: with another number of threads oneDNN adds up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(_one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack of 4 planes, weights, and the stack restored by this process alone."""
    path = tmp_path_factory.mktemp("engines")
    arguments = {"in_channels": 1, "out_channels": 1, "channels": [4, 8], "scale": 4, "depth": 0, "interpolate": False}
    torch.manual_seed(0)
    network = ResUNet(**arguments)  # type: ignore[arg-type]
    record = Record({"_target_": "ResUNet", **arguments}, 4)
    save_atomically({"model": network.state_dict(), "record": record.state_dict()}, path / "model.pt")
    image = np.random.default_rng(0).integers(0, 256, (4, 300, 70)).astype(np.uint8)
    write_image(path / "in.ome.zarr", image, axes="ZYX", pixel_size={})
    (path / "alone").mkdir()
    for suffix in (".ome.zarr", ".tif"):
        _restore(path, path / "alone" / f"out{suffix}", None)
    return path


def _restore(folder: Path, target: Path, engine: engines.Engine | None) -> Path:
    restorer = FileRestorer(*load_weights(folder / "model.pt"), INFERER, engine=engine)
    restorer.restore(open_image(folder / "in.ome.zarr"), target)
    return target


def _bytes(path: Path) -> Any:
    if path.is_file():
        return path.read_bytes()
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def processes(folder: Path, forked_workers: None) -> Iterator[engines.Engine]:
    with open_engine(RestoreOptions(workers=2, device="cpu"), folder / "model.pt") as engine:
        assert engine is not None
        yield engine


@pytest.fixture(scope="module")
def cluster(forked_workers: None) -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options, silence_logs="CRITICAL") as cluster:
        yield cluster


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".ome.zarr", ".tif"])
def test_processes_make_the_same_file(suffix: str, folder: Path, processes: engines.Engine, tmp_path: Path) -> None:
    target = _restore(folder, tmp_path / f"out{suffix}", processes)
    assert _bytes(target) == _bytes(folder / "alone" / target.name)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@pytest.mark.slow
def test_several_may_go_on_with_what_one_began(
    folder: Path, processes: engines.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, target = Journal.note, tmp_path / "out.ome.zarr"

    def interrupting(journal: Journal, job: str, rows: range) -> None:
        note(journal, job, rows)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "note", interrupting)
        with pytest.raises(KeyboardInterrupt):
            _restore(folder, target, None)
        with pytest.raises(KeyboardInterrupt):
            _restore(folder, target, processes)
    _restore(folder, target, processes)
    assert _bytes(target) == _bytes(folder / "alone" / target.name)


@pytest.mark.slow
def test_small_files_are_made_whole_by_a_worker_each(
    folder: Path, cluster: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 256, (40, 50)).astype(np.uint8)
        (tmp_path / "in").mkdir(exist_ok=True)
        write_image(tmp_path / "in" / f"{number}.png", image, axes="YX", pixel_size={})
    (tmp_path / "in" / "bad.png").write_bytes((tmp_path / "in" / "0.png").read_bytes()[:-60])
    options = {"skip_bad": True, "device": "cpu"}
    alone = restore(tmp_path / "in", tmp_path / "alone", folder / "model.pt", **options)
    address = cluster.scheduler_address
    with caplog.at_level("INFO"):
        shared = restore(tmp_path / "in", tmp_path / "out", folder / "model.pt", scheduler=address, **options)
    assert "2 Dask workers; dashboard: http" in caplog.text
    assert "left out: bad.png" in caplog.text
    assert [path.name for path in shared] == [path.name for path in alone] == [f"{number}.png" for number in range(3)]
    assert list(map(_bytes, shared)) == list(map(_bytes, alone))


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_makes_the_same_file(
    folder: Path, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, target, noted = Journal.note, tmp_path / "out.ome.zarr", 0

    def killing(journal: Journal, job: str, rows: range) -> None:
        nonlocal noted
        note(journal, job, rows)
        noted += 1
        if noted == 2:  # others are under way
            os.kill(next(iter(cluster.workers.values())).pid, 9)

    monkeypatch.setattr(Journal, "note", killing)
    options = RestoreOptions(scheduler=cluster.scheduler_address, device="cpu")
    with open_engine(options, folder / "model.pt") as engine:
        _restore(folder, target, engine)
    assert noted > 2
    assert _bytes(target) == _bytes(folder / "alone" / target.name)


@pytest.mark.slow
def test_workers_of_another_version_are_refused(folder: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.pssr2_monai, "__version__", "99.0")
    with (
        pytest.raises(InputError, match=r"worker tcp://\S+ has pssr2_monai \S+, but here is 99.0; install the same"),
        open_engine(RestoreOptions(scheduler=cluster.scheduler_address), folder / "model.pt"),
    ):
        pass


def _lose_a_worker(weights: Path) -> None:
    with open_engine(RestoreOptions(workers=2), weights) as engine:
        assert engine is not None
        list(engine.run(os._exit, [1]))


@pytest.mark.slow
def test_a_killed_process_is_reported_in_one_line(folder: Path, forked_workers: None) -> None:
    with pytest.raises(Unfinished, match="a worker process was killed"):
        _lose_a_worker(folder / "model.pt")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--workers", "2", "--scheduler", "tcp://127.0.0.1:1"], "workers and scheduler: give one of them"),
        (["--workers", "0"], "workers: 0 is not a number of processes"),
        (["--workers", "many"], "--workers many: is not a whole number"),
        (["--scheduler", "nonsense://x"], "no Dask scheduler answers at 'nonsense://x' within 10 s; check"),
    ],
)
def test_engines_that_are_not_available_are_refused_in_one_line(
    options: list[str],
    match: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "--scheduler" in options:
        pytest.importorskip("distributed")
    with pytest.raises(SystemExit):
        main(["restore", str(folder / "in.ome.zarr"), str(tmp_path), "--weights", str(folder / "model.pt"), *options])
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1
    assert match in err[0]
    assert not list(tmp_path.iterdir())


def test_a_scheduler_that_does_not_answer_is_reported(folder: Path) -> None:
    pytest.importorskip("distributed")
    options = RestoreOptions(scheduler="tcp://127.0.0.1:1")
    with (
        pytest.raises(InputError, match=r"no Dask scheduler answers at 'tcp://127.0.0.1:1' within 0.5 s; check"),
        open_engine(options, folder / "model.pt", connect_seconds=0.5),
    ):
        pass


def test_weights_that_are_missing_are_refused_before_workers_start(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="no such file of weights"),
        open_engine(RestoreOptions(workers=2), tmp_path / "model.pt"),
    ):
        pass


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pytest.importorskip("fcntl")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    yield
    while engines.held_locks:
        os.close(engines.held_locks.pop())


def test_each_worker_takes_a_gpu_of_its_own(three_gpus: None, tmp_path: Path) -> None:
    assert [engines.own_gpu(tmp_path) for _ in range(3)] == [0, 1, 2]
    assert engines.own_gpu(tmp_path) in range(3)
    os.close(engines.held_locks.pop(1))  # a worker has ended
    assert engines.own_gpu(tmp_path) == 1


@pytest.mark.trust
def test_a_link_in_place_of_a_lock_file_is_not_followed(three_gpus: None, tmp_path: Path) -> None:
    victim = tmp_path / "thesis.txt"
    victim.write_text("years of work")
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / f"pssr2_gpu_{os.getuid()}_0.lock").symlink_to(victim)
    (tmp_path / "locks" / f"pssr2_gpu_{os.getuid()}_1.lock").symlink_to(tmp_path / "planted")
    assert engines.own_gpu(tmp_path / "locks") == 2
    assert victim.read_text() == "years of work"
    assert not (tmp_path / "planted").exists()
