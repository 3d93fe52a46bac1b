"""Fuzzes the two keepalived dialects with mutations of rendered texts.

Run: `python -m tests.fuzz.fuzz_keepalived_dialects --seconds 60 --seed 1`. Whatever comes in, `check` answers with a configuration or with one
`ConfigError` that has a line inside the text; and a VRRP text that passes gives an effective file in which nothing stands that could run another
program or read another file.
"""

from __future__ import annotations

import random
import re
import sys
import time
from pathlib import Path

from amphorad.dialects.keepalived import lvs, vrrp
from amphorad.errors import ConfigError
from amphorad.vrrp.effective import render
from amphorad.vrrp.paths import Paths
from tests.fuzz.command import fuzz_as_command
from tests.fuzz.fuzz_haproxy_dialect import mutate

__all__ = ["fuzz"]

_ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "/var/lib/octavia/vrrp/check_script.sh"
_LINES = [
    '    notify_master "/bin/id"',
    "    notify /bin/id",
    "include /etc/passwd",
    "script /bin/id",
    "$X=/bin/id",
    '    misc_path "/bin/id"',
    "    }\n    notify_fault /bin/id\n    x {",
    "    lvs_sync_daemon eth1",
    "    10.0.0.99",
    "    # Configuration for Member x",
    "    unicast_peer {\n    }",
    "    weight 1",
]
_DANGEROUS = re.compile(r"notify|include|fifo|script|@|\$|`|;|\"|'|/bin/")
_FIXED = re.compile(
    r"script_user root|vrrp_notify_fifo /run/amphorad/vrrp/events|vrrp_script check_script|track_script|check_script|script "
    + SCRIPT
)


def _texts() -> tuple[str, str]:
    directory = _ROOT / "tests/contract/keepalived/data"
    return (directory / "vrrp.conf").read_text(), (directory / "lvs.conf").read_text()


def fuzz(*, seconds: float, seed: int) -> tuple[int, int]:
    """Runs for a time; how many texts were tried and how many were accepted."""
    rng = random.Random(seed)
    tried = accepted = 0
    texts = _texts()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        is_vrrp = rng.random() < 0.5
        text = texts[0] if is_vrrp else texts[1]
        if rng.random() < 0.5:
            text = mutate(text, rng)
        if rng.random() < 0.5:
            lines = text.split("\n")
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(_LINES))
            text = "\n".join(lines)
        tried += 1
        try:
            accepted += _verify_vrrp(text) if is_vrrp else _verify_lvs(text)
        except Exception:
            print(f"seed={seed} case={tried}\n{text!r}", file=sys.stderr)
            raise
    return tried, accepted


def _verify_vrrp(text: str) -> bool:
    try:
        found = vrrp.check(text, file="x", script=SCRIPT)
    except ConfigError as error:
        return _verify_refusal(text, error)
    effective = render(found, Paths(Path("/var/lib/octavia"), Path("/run/amphorad")))
    assert not _DANGEROUS.search(_FIXED.sub("", effective)), effective
    return True


def _verify_lvs(text: str) -> bool:
    try:
        found = lvs.check(text, file="x")
    except ConfigError as error:
        return _verify_refusal(text, error)
    assert found.listener_id
    assert (found.pool is None) == (not found.vips)
    return True


def _verify_refusal(text: str, error: ConfigError) -> bool:
    assert error.line is None or 1 <= error.line <= text.count("\n") + 1
    assert len(str(error)) < 1000
    return False


if __name__ == "__main__":
    fuzz_as_command(__doc__, lambda seconds, seed: "tried={} accepted={}".format(*fuzz(seconds=seconds, seed=seed)))
