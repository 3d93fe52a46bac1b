"""TLS under a check: the handshake is a check by itself (TLS-HELLO), or carries HTTP (HTTPS).

The TLS engine works on memory buffers, so this is bytes in and bytes out like every conversation.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import warnings
from typing import TYPE_CHECKING, Final

from amphorad.health.probes.http import printable
from amphorad.health.verdict import CheckStatus, Finding
from amphorad.model import TLS_VERSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from amphorad.health.probes.conversation import Conversation
    from amphorad.health.target import CheckTls

__all__ = ["RECEIVED_LIMIT", "TlsConversation", "make_context"]

RECEIVED_LIMIT: Final = 262144
"""Bytes from a member under one check, certificates included; more is an invalid answer."""

_VERSIONS: Final = {
    "SSLv3": (ssl.TLSVersion.SSLv3, ssl.OP_NO_SSLv3),
    "TLSv1": (ssl.TLSVersion.TLSv1, ssl.OP_NO_TLSv1),
    "TLSv1.1": (ssl.TLSVersion.TLSv1_1, ssl.OP_NO_TLSv1_1),
    "TLSv1.2": (ssl.TLSVersion.TLSv1_2, ssl.OP_NO_TLSv1_2),
    "TLSv1.3": (ssl.TLSVersion.TLSv1_3, ssl.OP_NO_TLSv1_3),
}
_READ_BYTES: Final = 16384


def make_context(tls: CheckTls, files: Mapping[str, bytes]) -> ssl.SSLContext:
    """A client context. TLS 1.3 suites stay the library's: Python cannot choose them.

    Args:
        files: content by path, of what this process may not open itself.

    Raises:
        OSError, ssl.SSLError: a file is missing or no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if tls.verify else ssl.CERT_NONE
    if tls.verify:
        # No name to check, no system store: only the pool's own CA counts.
        with _readable(tls.ca_file, files) as path:
            context.load_verify_locations(cafile=path)
        if tls.crl_file is not None:
            with _readable(tls.crl_file, files) as path:
                context.load_verify_locations(cafile=path)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN | ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    if tls.certificate_file is not None:
        with _readable(tls.certificate_file, files) as path:
            assert path is not None
            context.load_cert_chain(path, password="")  # never ask for one on the terminal
    if tls.ciphers is not None:
        context.set_ciphers(tls.ciphers)
    if tls.versions != TLS_VERSIONS:
        _limit_versions(context, tls.versions)
    if tls.alpn is not None:
        context.set_alpn_protocols(list(tls.alpn))
    return context


@contextlib.contextmanager
def _readable(file: str | None, files: Mapping[str, bytes]) -> Iterator[str | None]:
    """A path to what `files` has of it, or the path itself: the library reads keys and revocation lists from paths only."""
    if file is None or file not in files:
        yield file
        return
    descriptor = os.memfd_create("tls")
    try:
        os.write(descriptor, files[file])
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _limit_versions(context: ssl.SSLContext, wanted: frozenset[str]) -> None:
    allowed = [version for name, (version, _switch) in _VERSIONS.items() if name in wanted]
    with warnings.catch_warnings():
        # Old versions and holes are what the operator wrote; the library warns of both.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = allowed[0], allowed[-1]
        for name, (version, switch) in _VERSIONS.items():
            if name not in wanted and allowed[0] < version < allowed[-1]:
                context.options |= switch


class TlsConversation:
    """A handshake, and then what `choose` returns for the negotiated protocol, or success when `choose` is None."""

    __slots__ = ("_choose", "_inner", "_tls", "_total", "_wire_in", "_wire_out", "is_established", "outgoing")

    def __init__(self, context: ssl.SSLContext, choose: Callable[[str | None], Conversation] | None) -> None:
        self.outgoing = b""
        self.is_established = False
        self._choose = choose
        self._inner: Conversation | None = None
        self._total = 0
        self._wire_in = ssl.MemoryBIO()
        self._wire_out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._wire_in, self._wire_out, server_side=False)

    def connected(self) -> Finding | None:
        return self._advance()

    def received(self, data: bytes) -> Finding | None:
        self._total += len(data)
        if self._total > RECEIVED_LIMIT:
            return Finding(CheckStatus.L7RSP if self._inner is not None else CheckStatus.L6RSP, None, "too many bytes")
        self._wire_in.write(data)
        return self._advance()

    def ended(self) -> Finding:
        if self._inner is not None:
            return self._inner.ended()
        return Finding(CheckStatus.L6RSP, None, "Connection closed during SSL handshake")

    def broken(self, reason: str) -> Finding:
        if self._inner is not None:
            return self._inner.broken(reason)
        return Finding(CheckStatus.L6RSP, None, f"SSL handshake failure ({reason})")

    def timed_out(self) -> Finding:
        return self._inner.timed_out() if self._inner is not None else Finding(CheckStatus.L6TOUT)

    def _advance(self) -> Finding | None:
        finding = None
        try:
            if self._inner is None:
                finding = self._shake_hands()
            if self._inner is not None and finding is None:
                finding = self._relay(self._inner)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, ssl.CertificateError) as error:
            finding = self._refused(error)
        self.outgoing += self._wire_out.read()
        return finding

    def _shake_hands(self) -> Finding | None:
        self._tls.do_handshake()  # raises SSLWantReadError until it is done
        self.is_established = True
        if self._choose is None:
            return Finding(CheckStatus.L6OK)
        self._inner = self._choose(self._tls.selected_alpn_protocol())
        return self._inner.connected()

    def _relay(self, inner: Conversation) -> Finding | None:
        finding = None
        while finding is None:
            if inner.outgoing:
                self._tls.write(inner.outgoing)  # goes to memory as a whole
                inner.outgoing = b""
            try:
                data = self._tls.read(_READ_BYTES)
            except ssl.SSLZeroReturnError:
                return inner.ended()
            finding = inner.received(data) if data else inner.ended()
        return finding

    def _refused(self, error: ssl.SSLError) -> Finding:
        if self._inner is not None:
            return Finding(CheckStatus.L7RSP)
        reason = getattr(error, "verify_message", "") or (error.reason or "").replace("_", " ").lower()
        detail = f" ({printable(reason.encode())})" if reason else ""
        return Finding(CheckStatus.L6RSP, None, f"SSL handshake failure{detail}")
