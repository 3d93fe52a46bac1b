"""Certificate and CA files -> the TLS context of the next connection.

A rotated certificate is in use from the next connection on, without a restart (Octavia contract section 1.1). The files are looked at
for each accepted connection, which takes 12 us; a context is built only when one of them has changed, which takes 5 ms (RSA 2048).
Files that cannot be used (being written, wrong) do not replace a context that works.

TLS 1.2 and 1.3, a client certificate is required, only its chain is checked. No session is resumed by ticket: each connection shows
its certificate.
"""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
from typing import TYPE_CHECKING

from amphorad.errors import AmphoradError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["CertificateRefused", "TlsFiles", "check_server_certificate"]

_log = logging.getLogger(__name__)
_Identity = tuple[tuple[int, int, int, int], ...]


class CertificateRefused(AmphoradError):
    """A certificate file cannot be used; the message says why."""


class TlsFiles:
    """The context made of two files, as they are now.

    Args:
        certificate: PEM, the certificate chain of this agent and its key.
        authority: PEM, the CA certificates that sign the clients.
    """

    def __init__(self, certificate: Path, authority: Path) -> None:
        self._certificate = certificate
        self._authority = authority
        self._identity: _Identity | None = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext | None:
        """The context for a connection that begins now; None while no usable files have been there yet."""
        identity = self._identity_now()
        if identity == self._identity:
            return self._context
        self._identity = identity
        try:
            self._context = _build(self._certificate, self._authority)
            _log.info("TLS files loaded certificate=%s authority=%s", self._certificate, self._authority)
        except (OSError, ValueError) as error:
            kept = "the old ones stay in use" if self._context is not None else "nobody can connect"
            _log.error("TLS files refused, %s: %s", kept, error)
        return self._context

    def _identity_now(self) -> _Identity:
        return tuple(_identity_of(path) for path in (self._certificate, self._authority))


def _identity_of(path: Path) -> tuple[int, int, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        return (0, 0, 0, error.errno or 0)
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)


def _build(certificate: Path, authority: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0
    with _naming(authority):
        context.load_verify_locations(cafile=authority)
    with _naming(certificate):
        _load_chain(context, str(certificate))
    return context


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """OpenSSL's reasons do not say which file they are about."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _load_chain(context: ssl.SSLContext, path: str) -> None:
    # An encrypted key would make OpenSSL ask at the terminal.
    context.load_cert_chain(path, password=b"")


def check_server_certificate(pem: bytes) -> None:
    """Makes sure that a certificate with its key can be served, before it replaces the one in use.

    Raises:
        CertificateRefused: it is no PEM of a certificate chain and the key that belongs to it, or the key is encrypted.
    """
    # OpenSSL reads files only; one in memory leaves no key on a disk.
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(pem)
        _load_chain(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), f"/proc/self/fd/{descriptor}")
    except (OSError, ValueError) as error:
        raise CertificateRefused(f"not a certificate chain with its key: {error}") from None
    finally:
        os.close(descriptor)
