"""What a shell offers when the completion script is loaded, asked of the shells themselves."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pssr2_monai.bundle import preset_names
from pssr2_monai.cli.main import main
from pssr2_monai.cli.verbs import COMMANDS


@pytest.fixture
def script(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    shell = request.param
    with pytest.raises(SystemExit) as exit_:
        main(["completion", shell])
    assert exit_.value.code == 0
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = tmp_path / f"pssr2.{shell}"
    path.write_text(capsys.readouterr().out)
    return path


def _offered(script: Path, line: str) -> list[str]:
    """The words that the script's shell offers at the end of a line."""
    if script.suffix == ".fish":
        command = ["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"]
    else:
        words = line.split(" ")
        code = f'source {script}; COMP_WORDS=({line} ""); COMP_WORDS=("${{COMP_WORDS[@]:0:{len(words)}}}"); '
        code += f"COMP_CWORD={len(words) - 1}; _pssr2; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        command = ["bash", "--norc", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=script.parent)
    return [line.split("\t")[0] for line in done.stdout.split("\n") if line]


@pytest.mark.parametrize("script", ["bash", "fish"], indirect=True)
def test_verbs_options_and_presets_are_offered(script: Path) -> None:
    assert set(COMMANDS) <= set(_offered(script, "pssr2 "))
    assert _offered(script, "pssr2 tr") == ["train"]
    assert set(_offered(script, "pssr2 restore a b --we")) == {"--weights"}
    assert {"--batch_size", "--batch-size"} & set(_offered(script, "pssr2 train a --ba"))
    assert set(_offered(script, "pssr2 evaluate --pix")) == {"--pixel-size"}
    assert "--json" in _offered(script, "pssr2 info --j")
    assert set(preset_names()) <= set(_offered(script, "pssr2 train a --preset "))
    assert set(_offered(script, "pssr2 completion ")) >= {"bash", "fish", "zsh"}


@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_several_presets_are_offered_one_after_the_other(script: Path) -> None:
    assert _offered(script, "pssr2 train a --preset denoise,flu") == ["denoise,fluorescence"]
    assert _offered(script, "pssr2 train a --preset = flu") == ["fluorescence"]  # bash parts words at =


@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_zsh_takes_the_script(script: Path) -> None:
    code = f"autoload -Uz compinit; compinit -u -D; source {script}; print $_comps[pssr2]"
    done = subprocess.run(["zsh", "-f", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("_pssr2", "")
