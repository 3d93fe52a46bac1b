"""The files that TLS options name: read by the supervisor, because the data plane may not open them.

What is read goes to the data plane in the message that carries the configuration, and is never logged.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from amphorad.errors import ConfigError

if TYPE_CHECKING:
    from amphorad.model import LoadBalancer, MemberTls

__all__ = [
    "FILE_LIMIT_BYTES",
    "ISSUER_SUFFIX",
    "RESPONSE_SUFFIX",
    "certificate_files",
    "pool_files",
    "read_tls_files",
]

FILE_LIMIT_BYTES = 16 * 1024 * 1024
RESPONSE_LIMIT_BYTES = 65536
RESPONSE_SUFFIX = ".ocsp"
ISSUER_SUFFIX = ".issuer"


def certificate_files(crt_list: bytes, file: str) -> list[str]:
    """The paths in a crt-list, the default certificate first (Octavia contract section 4.8: one path on each line).

    Raises:
        ConfigError: there is none, or a line holds options, which Octavia never writes.
    """
    paths = []
    for number, line in enumerate(crt_list.decode(errors="surrogateescape").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) > 1:
            raise ConfigError("options in a crt-list are not supported", file=file, line=number, word=words[1])
        paths.append(words[0])
    if not paths:
        raise ConfigError("the crt-list names no certificate", word=file)
    return paths


def pool_files(tls: MemberTls) -> list[str]:
    """What the TLS options of a pool name: the certificate shown to members, CA and CRL."""
    return [path for path in (tls.certificate_file, tls.ca_file, tls.crl_file) if path is not None]


def read_tls_files(load_balancer: LoadBalancer, *, stapling: bool = False) -> dict[str, bytes]:
    """Path and content of every file that the TLS options of listeners and pools lead to.

    Args:
        stapling: the OCSP responses beside the listeners' certificates too, and the issuers beside those. There need not be
            any, and one that cannot be read is empty here: it is the engine's side that judges and tells of them.

    Raises:
        ConfigError: one cannot be read; the message names it.
    """
    files: dict[str, bytes] = {}
    for listener in load_balancer.listeners:
        for pool in listener.pools:
            for path in pool_files(pool.tls) if pool.tls is not None else ():
                _read(path, files)
        tls = listener.tls
        if tls is None:
            continue
        for named in (tls.crt_list, tls.ca_file, tls.crl_file):
            if named is not None:
                _read(named, files)
        if tls.crt_list is not None:
            for path in certificate_files(files[tls.crt_list], tls.crt_list):
                _read(path, files)
                if stapling and _read_beside(path + RESPONSE_SUFFIX, files):
                    _read_beside(path + ISSUER_SUFFIX, files)
    return files


def _read_beside(path: str, files: dict[str, bytes]) -> bool:
    """Whether there is such a file. One byte too many of it is enough to see that it is too long."""
    try:
        with Path(path).open("rb") as source:
            files[path] = source.read(RESPONSE_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return False
    except OSError:
        files[path] = b""
    return True


def _read(path: str, files: dict[str, bytes]) -> None:
    if path in files:
        return
    try:
        with Path(path).open("rb") as source:
            content = source.read(FILE_LIMIT_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", word=path) from error
    if len(content) > FILE_LIMIT_BYTES:
        raise ConfigError(f"longer than {FILE_LIMIT_BYTES} bytes", word=path)
    files[path] = content
