"""The build file names every compiled module and what it is linked with, so a clean clone builds all of them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_pyproject_lists_every_cython_module() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = {table["name"]: table["sources"][0] for table in settings["tool"]["setuptools"].get("ext-modules", [])}

    present = {str(path.relative_to(ROOT)) for path in (ROOT / "amphorad").rglob("*.pyx")}

    assert set(listed.values()) == present
    assert all(source == name.replace(".", "/") + ".pyx" for name, source in listed.items())


def test_table_is_the_one_that_its_tool_writes() -> None:
    done = subprocess.run([sys.executable, ROOT / "tools/list-extensions", "--check"], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
