"""What threads share in memory, hammered by threads without the interpreter under the thread sanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MODULES = ("amphorad/proxy/engine/stick_table", "amphorad/proxy/engine/rate_limit", "hammer")
FLAGS = ("-fsanitize=thread", "-O1", "-g", "-fno-omit-frame-pointer", "-w", "-shared", "-fPIC")


def sanitizer_library() -> str:
    """What must be loaded before the interpreter; skips where it is not to be had."""
    if shutil.which("gcc") is None or shutil.which("setarch") is None:
        pytest.skip("needs gcc and setarch")
    found = subprocess.run(["gcc", "-print-file-name=libtsan.so"], capture_output=True, text=True, check=True)
    path = found.stdout.strip()
    if not os.path.isabs(path):
        pytest.skip("gcc has no thread sanitizer here")
    return path


def build(directory: Path) -> None:
    """A second copy of the modules, with nothing around them."""
    for path in (ROOT / "amphorad").rglob("*.pxd"):
        copy = directory / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    for package in [directory / "amphorad", *(directory / "amphorad").rglob("*")]:
        if package.is_dir():
            (package / "__init__.py").touch()
    for name in MODULES:
        shutil.copy((HERE if name == "hammer" else ROOT) / f"{name}.pyx", directory / f"{name}.pyx")
    shutil.copy(HERE / "run.py", directory)
    include = sysconfig.get_path("include")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for name in MODULES:
        subprocess.run([sys.executable, "-m", "cython", "-3", f"{name}.pyx"], cwd=directory, check=True)
        subprocess.run(["gcc", *FLAGS, f"-I{include}", f"{name}.c", "-o", f"{name}{suffix}"], cwd=directory, check=True)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(
    bool(os.environ.get("AMPHORAD_SANITIZED")),
    reason="one sanitizer at a time: this one does not go with the address sanitizer",
)
def test_stick_tables_and_rates_have_no_data_race(tmp_path: Path) -> None:
    library = sanitizer_library()
    build(tmp_path)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(tmp_path),
        "LD_PRELOAD": library,
        "TSAN_OPTIONS": "halt_on_error=1:exitcode=66:report_signal_unsafe=0",
    }

    # without address randomisation: the sanitizer needs its places in memory
    run = subprocess.run(
        ["setarch", "-R", sys.executable, "run.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert (run.returncode, run.stdout) == (0, "no race\n"), run.stderr[-4000:]
