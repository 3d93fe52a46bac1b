"""From the TLS options of a listener and the content of its files to the engine's context (Octavia contract section 4.8)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from amphorad.errors import ConfigError
from amphorad.model import ClientAuthentication
from amphorad.proxy.staples import staples_of
from amphorad.proxy.tls.context import ServerContext
from amphorad.tls_files import ISSUER_SUFFIX, RESPONSE_SUFFIX, certificate_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from amphorad.model import Listener

__all__ = ["build_context", "files_of"]


def files_of(listener: Listener, files: Mapping[str, bytes]) -> dict[str, bytes]:
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


def build_context(listener: Listener, files: Mapping[str, bytes]) -> ServerContext:
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
