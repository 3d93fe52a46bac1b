"""Wheels of the package under test, with the modules that are compiled already, under any version number."""

from __future__ import annotations

import base64
import hashlib
import platform
import re
import sys
import tomllib
import zipfile
from pathlib import Path

import amphorad

__all__ = ["make_wheel"]

_KINDS = {".py", ".so", ".cfg", ".service", ".typed"}


def make_wheel(directory: Path, version: str) -> Path:
    """A wheel for this interpreter, without dependencies; the package in it calls itself by that version.

    Takes a second, where building the modules would take minutes.
    """
    package = Path(amphorad.__file__).parent
    interpreter = f"cp{sys.version_info.major}{sys.version_info.minor}"
    tag = f"{interpreter}-{interpreter}-linux_{platform.machine()}"
    information = f"amphorad-{version}.dist-info"
    contents: dict[str, bytes] = {}
    for file in sorted(package.rglob("*")):
        if file.is_file() and file.suffix in _KINDS and "__pycache__" not in file.parts:
            contents[str(file.relative_to(package.parent))] = file.read_bytes()
    own = contents["amphorad/__init__.py"].decode()
    renamed, count = re.subn(r'(?m)^__version__ = ".*"$', f'__version__ = "{version}"', own)
    assert count == 1, "no version to replace"
    contents["amphorad/__init__.py"] = renamed.encode()
    scripts = tomllib.loads((package.parent / "pyproject.toml").read_text())["project"]["scripts"]
    lines = "".join(f"{name} = {target}\n" for name, target in scripts.items())
    contents[f"{information}/METADATA"] = f"Metadata-Version: 2.1\nName: amphorad\nVersion: {version}\n".encode()
    contents[f"{information}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    contents[f"{information}/entry_points.txt"] = f"[console_scripts]\n{lines}".encode()
    record = "".join(f"{name},{_digest(content)},{len(content)}\n" for name, content in contents.items())
    contents[f"{information}/RECORD"] = f"{record}{information}/RECORD,,\n".encode()
    wheel = directory / f"amphorad-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return wheel


def _digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
