"""The macro for Fiji calls the command as it is, and runs in ImageJ where that is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pssr2_monai.cli.arguments import fire_words
from pssr2_monai.cli.verbs import COMMANDS
from pssr2_monai.networks.weights import BUNDLED

MACRO = Path(__file__).parents[2] / "docs" / "fiji" / "pssr2_restore.ijm"
IMAGEJ = Path("/usr/share/java/ij.jar")  # of Debian's package imagej

COMMAND = """#!{python}
import sys, tifffile
verb, source, target, option, weights = sys.argv[1:]
assert (verb, option, weights) == ("restore", "--weights", "em_2x")
image = tifffile.imread(source).repeat(2, 0).repeat(2, 1)
tifffile.imwrite(target, image, imagej=True, resolution=(100, 100), metadata={{"unit": "um"}})
"""
"""Stands for ``pssr2``."""

DRIVER = """
call("ij.Prefs.set", "pssr2.command", "{command}");
open("{scan}");
makeRectangle(10, 4, 20, 12);
runMacro("{macro}", "em_2x");
getPixelSize(unit, width, height);
print("answer", getTitle(), getWidth(), getHeight(), width, Overlay.size, Overlay.hidden, getPixel(39, 23));
"""


def test_the_command_that_the_macro_runs_exists() -> None:
    text = MACRO.read_text(encoding="utf-8")
    call = re.search(r"exec\(command, (.+)\);", text)
    assert call is not None
    verb, *words = [word.strip('"') for word in call[1].split(", ")]
    fire_words(COMMANDS[verb], words)
    named = re.search(r'addMessage\("(.+), or the path of a model.pt', text)
    assert named is not None
    assert {name.split()[0] for name in named[1].split(", ")} == set(BUNDLED)


@pytest.mark.skipif(not IMAGEJ.is_file() or not shutil.which("xvfb-run"), reason="ImageJ or a screen is missing")
def test_the_macro_shows_the_restored_selection_with_its_pixel_size_and_the_scan_over_it(tmp_path: Path) -> None:
    scan = np.arange(32 * 48, dtype=np.uint8).reshape(32, 48)
    tifffile.imwrite(tmp_path / "scan.tif", scan, imagej=True, resolution=(50, 50), metadata={"unit": "um"})
    command = tmp_path / "pssr2"
    command.write_text(COMMAND.format(python=sys.executable), encoding="utf-8")
    command.chmod(0o755)
    driver = tmp_path / "driver.ijm"
    driver.write_text(DRIVER.format(command=command, scan=tmp_path / "scan.tif", macro=MACRO), encoding="utf-8")
    java = ["xvfb-run", "-a", "java", f"-Djava.io.tmpdir={tmp_path}", f"-Duser.home={tmp_path}"]
    words = [*java, "-cp", str(IMAGEJ), "ij.ImageJ", "-batch", str(driver)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    answer = next((line for line in done.stdout.splitlines() if line.startswith("answer")), done.stdout + done.stderr)
    assert answer == f"answer scan, restored 40 24 0.01 1 1 {scan[15, 29]}"
