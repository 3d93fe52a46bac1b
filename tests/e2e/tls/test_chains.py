"""Which certificates a client is sent with the server's own, by amphorad and by HAProxy."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Authority, Identity
from tests.support.http_rig import BOTH
from tests.support.tls_rig import TlsRig, run_tls_rig

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.timeout(60)]


def _subjects(port: int) -> list[str]:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-showcerts"]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=20, check=False)
    return re.findall(r"^ *\d+ s:.*CN = (\S+)$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("proxy", BOTH)
@pytest.mark.parametrize(
    ("in_file", "trusted", "sent"),
    [
        ([], [], ["server"]),
        (["middle"], [], ["server", "middle"]),
        (["middle", "root"], [], ["server", "middle", "root"]),
        ([], ["middle", "root"], ["server"]),  # those are for clients' certificates
        ([], ["other"], ["server"]),
        (["middle"], ["middle", "root"], ["server", "middle"]),
    ],
)
def test_chain_is_that_of_the_file(
    proxy: str, tmp_path: Path, in_file: list[str], trusted: list[str], sent: list[str]
) -> None:
    root = Authority("root")
    authorities = {"root": root, "middle": Authority("middle", issuer=root), "other": Authority("other")}
    rig = TlsRig(tmp_path)
    server: Identity = authorities["middle"].issue("server")
    chain = b"".join(authorities[name].pem for name in in_file)
    file = rig.write("server.pem", server.pem + chain)
    crt_list = rig.write("list.pem", f"{file}\n".encode())
    options = f"ssl crt-list {crt_list}"
    if trusted:
        ca = rig.write("ca.pem", b"".join(authorities[name].pem for name in trusted))
        options += f" ca-file {ca} verify optional"
    with run_tls_rig(proxy, rig, options):
        assert _subjects(rig.port) == sent
