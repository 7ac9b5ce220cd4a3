"""The documents as a site: built without a warning, and read without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FETCHED = re.compile(r"<(?:script|img|iframe|source)[^>]+src=\"(?:https?:)?//|<link[^>]+href=\"(?:https?:)?//")
"""What a browser would fetch from elsewhere when it opens a page, not links to click."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, folder = Path(__file__).parents[2], tmp_path_factory.mktemp("site")
    # Not --quiet, which hides warnings from --strict, too.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    settings = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=root, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    assert not [(page.name, tag) for page in pages for tag in FETCHED.findall(page.read_text(encoding="utf-8"))]


def test_links_of_readme_lead_somewhere() -> None:
    root = Path(__file__).parents[2]
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (root / "README.md").read_text(encoding="utf-8"))
    inside = [link for link in links if not link.startswith("https://")]
    assert len(inside) > 10
    assert not [link for link in inside if not (root / link).is_file()]


def test_public_names_are_documented(site: Path) -> None:
    import pssr2_monai

    page = (site / "api" / "index.html").read_text(encoding="utf-8")
    assert not [name for name in pssr2_monai.__all__ if f'id="pssr2_monai.{name}"' not in page]
