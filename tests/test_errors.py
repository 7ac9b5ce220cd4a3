"""The causes of an error, its message in one line, and names that were meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pssr2_monai.errors import InputError, causes, cell, check_folder, nearest, one_line


def _raise_chained() -> None:
    try:
        try:
            raise InputError("inner")
        except InputError as error:
            raise KeyError("middle") from error
    except KeyError:
        raise RuntimeError("outer")  # noqa: B904


def _raise_from_itself() -> None:
    try:
        raise RuntimeError("again")
    except RuntimeError as error:
        raise error from error


def test_causes_run_from_the_outermost_to_the_innermost() -> None:
    with pytest.raises(RuntimeError) as raised:
        _raise_chained()
    assert [type(error) for error in causes(raised.value)] == [RuntimeError, KeyError, InputError]


def test_an_error_raised_from_itself_ends_the_chain() -> None:
    with pytest.raises(RuntimeError) as raised:
        _raise_from_itself()
    assert list(causes(raised.value)) == [raised.value]


def test_the_most_similar_name_is_suggested_or_none() -> None:
    assert nearest("denoize", ["sharpen", "denoise", "em"]) == "; did you mean 'denoise'?"
    assert nearest("xyz", ["sharpen", "denoise"]) == ""


@pytest.mark.trust
def test_cells_of_tables_are_no_formulas() -> None:
    assert cell("=HYPERLINK(A1).tif") == "'=HYPERLINK(A1).tif"
    assert cell("\t@sum.tif") == "'\t@sum.tif"
    assert [cell(value) for value in ("cell_1.tif", "a=b", -1.5, 3, None)] == ["cell_1.tif", "a=b", -1.5, 3, None]


def test_a_message_becomes_one_line_of_bounded_length() -> None:
    assert one_line(ValueError("first line\n\tsecond   line ")) == "first line second line"
    assert one_line(KeyError()) == "KeyError"
    assert one_line(ValueError("a" * 20), limit=20) == "a" * 20
    assert one_line(ValueError("a" * 21), limit=20) == "a" * 17 + "..."


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")])
def test_a_folder_that_cannot_be_written_to_is_named(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("pssr2_monai.errors.TemporaryDirectory", refuse)
    with pytest.raises(InputError, match=rf"b: cannot be written to \({error.strerror}\); give another folder"):
        check_folder(tmp_path / "a" / "b")


def _evaluate(data: Path, weights: Path, out: Path) -> Any:
    from pssr2_monai.evaluation.evaluate import evaluate

    return evaluate(data, weights, out)


def _restore(data: Path, weights: Path, out: Path) -> Any:
    from pssr2_monai.restoration.restore import restore

    return restore(data, out, weights)


def _crappify(data: Path, weights: Path, out: Path) -> Any:
    from pssr2_monai.training.preview import crappify_images

    return crappify_images(data, out)


def _preprocess(data: Path, weights: Path, out: Path) -> Any:
    from pssr2_monai.training.preview import preprocess

    return preprocess(data, out, tile=32)


def _calibrate(data: Path, weights: Path, out: Path) -> Any:
    from pssr2_monai.calibration.calibrate import calibrate

    return calibrate(data, out / "scope.json", hr=data, scale=1)


def _register(data: Path, weights: Path, out: Path) -> Any:
    from pssr2_monai.calibration.registration.register import register

    return register(data, data, out / "registered", scale=1)


def _convert(data: Path, weights: Path, out: Path) -> Any:
    from pssr2_monai.networks.weights import convert

    return convert(weights, out / "model.pt")


@pytest.mark.parametrize(
    "work",
    [_evaluate, _restore, _crappify, _preprocess, _calibrate, _register, _convert],
    ids=lambda work: work.__name__,
)
def test_outputs_that_cannot_be_written_end_work_before_it_begins(
    work: Callable[[Path, Path, Path], Any], hr_folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt: is a file in the way of what is written; move it"):
        work(hr_folder, tiny_weights, tmp_path / "notes.txt" / "inside")
    assert (tmp_path / "notes.txt").read_text() == "mine"
