"""From the TLS options of a listener and the content of its files to the engine's context (Octavia contract section 4.8)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amphorad.errors import ConfigError
from amphorad.model import ClientAuthentication
from amphorad.proxy.staples import StapleWatch, staples_of
from amphorad.proxy.tls.context import ServerContext
from amphorad.tls_files import ISSUER_SUFFIX, RESPONSE_SUFFIX, certificate_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from amphorad.model import Listener, ListenerTls

__all__ = ["ListenerContext", "listener_context"]

HANDSHAKE_ALARM_INTERVAL_S = 60.0


@dataclass(slots=True, eq=False, repr=False)
class ListenerContext:
    """A listener's context, what it was made from, and what was told of it. No repr: there are private keys inside."""

    listener_id: str
    options: ListenerTls
    files: dict[str, bytes]
    context: ServerContext
    staples: StapleWatch
    failures: int = 0
    alarmed_at: float = float("-inf")

    def look(self, now: float, wall: float) -> list[str]:
        """Tells of OCSP responses that are not sent, and of handshakes that failed, the latter once a minute at most."""
        alarms = self.staples.look(wall)
        count, reason = self.context.failures()
        if count != self.failures and now - self.alarmed_at >= HANDSHAKE_ALARM_INTERVAL_S:
            self.failures, self.alarmed_at = count, now
            alarms.append(f"listener {self.listener_id}: SSL handshake failure ({count} so far, latest: {reason})")
        return alarms


def listener_context(
    listener: Listener, files: Mapping[str, bytes], known: ListenerContext | None
) -> ListenerContext | None:
    """How the listener's clients are spoken to; `known`, unless options or the bytes of a file have changed. None: plain.

    Raises:
        ConfigError: a file's content is missing, or a certificate, key, CA, CRL or cipher list is unusable; the message names
            the file or the option.
    """
    if listener.tls is None:
        return None
    own = _files_of(listener, files)
    if known is not None and (known.options, known.files) == (listener.tls, own):
        return known
    context = _build_context(listener, own)
    return ListenerContext(listener.id, listener.tls, own, context, StapleWatch(listener.id, context.staples))


def _files_of(listener: Listener, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Those of `files` that the listener's context is built from.

    Raises:
        ConfigError: one is missing; the message names it.
    """
    tls = listener.tls
    if tls is None or tls.crt_list is None:
        return {}
    paths = [path for path in (tls.crt_list, tls.ca_file, tls.crl_file) if path is not None]
    for path in paths[:1]:
        if path in files:
            certificates = certificate_files(files[path], path)
            beside = [file + suffix for file in certificates for suffix in (RESPONSE_SUFFIX, ISSUER_SUFFIX)]
            paths += certificates + [file for file in beside if file in files]
    for path in paths:
        if path not in files:
            raise ConfigError(f"listener {listener.id}: the content of a file is missing", word=path)
    return {path: files[path] for path in paths}


def _build_context(listener: Listener, files: Mapping[str, bytes]) -> ServerContext:
    """The context of a TLS listener.

    Without a choice of the file's, an HTTP listener offers HTTP/2 and HTTP/1.1, as recent HAProxy does.

    Raises:
        ConfigError: a certificate, key, CA, CRL or cipher list is unusable; the message names the file or the option.
    """
    tls = listener.tls
    if tls is None or tls.crt_list is None:
        raise ConfigError(f"listener {listener.id}: TLS needs a crt-list")
    asks = tls.ca_file is not None and tls.client_authentication is not ClientAuthentication.NONE
    certificates = certificate_files(files[tls.crt_list], tls.crt_list)
    protocols = tls.alpn if tls.alpn is not None else ("h2", "http/1.1")
    try:
        return ServerContext(
            [(path, files[path]) for path in certificates],
            identity=listener.id.encode(),
            ca=files[tls.ca_file] if asks and tls.ca_file is not None else None,
            crl=files[tls.crl_file] if asks and tls.crl_file is not None else None,
            required=tls.client_authentication is ClientAuthentication.REQUIRED,
            ciphers=tls.ciphers,
            ciphersuites=tls.ciphersuites,
            versions=tls.versions,
            protocols=[name.encode() for name in protocols],
            staples=staples_of(certificates, files, time.time()),
        )
    except ValueError as error:
        raise ConfigError(f"listener {listener.id}: {error}") from error
