"""The conformance suite h2spec (github.com/summerwind/h2spec), where that program is installed: all of its 146 cases.

It is written against RFC 7540; with `--strict` it has one more case. Over TLS, where ALPN has agreed on HTTP/2, everything
passes. A plain listener speaks HTTP/1 as well, so that one case has another answer there: a first line that is no preface is a
malformed HTTP/1 request, answered 400 and closed (RFC 9113 section 3.4 lets GOAWAY be omitted; HAProxy does the same).
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from tests.support.naming_members import NamingMembers
from tests.support.served import Served
from tests.support.tls_rig import TlsRig, tls_text

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = shutil.which("h2spec")
CASES = 146
NO_PREFACE = "Sends invalid connection preface"
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(PROGRAM is None, reason="the h2spec program is not installed"),
]


def _failed(report: Path) -> tuple[int, set[str]]:
    """How many cases were run, and which of them failed."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    wrong = {case.get("classname", "") for case in cases if len(case)}
    return len(cases), wrong


@pytest.mark.parametrize("kind", ["tls", "plain"])
def test_every_case_passes(tmp_path: Path, kind: str) -> None:
    assert PROGRAM is not None
    rig = TlsRig(tmp_path)
    options = ""
    if kind == "tls":
        options = f"ssl crt-list {rig.write_list(rig.authority.issue('default', 'default.example'))} alpn h2,http/1.1"
    report = tmp_path / "report.xml"
    with NamingMembers(["member"]) as members:
        text = tls_text(rig.port, members.ports["member"], options)
        text = text.replace("    redirect scheme https if !{ ssl_fc }\n", "")
        command = [PROGRAM, "-h", "127.0.0.1", "-p", str(rig.port), "-j", str(report), "-o", "5"]
        with Served(tmp_path, text):
            more = ["-t", "-k"] if kind == "tls" else []
            done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=280)

    cases, failed = _failed(report)
    assert cases == CASES
    assert failed == ({NO_PREFACE} if kind == "plain" else set()), done.stdout
