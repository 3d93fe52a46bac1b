"""From the TLS options of a pool and the content of its files to the engine's context (Octavia contract section 4.10.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from amphorad.errors import ConfigError
from amphorad.model import Mode
from amphorad.proxy.tls.member_context import MemberContext
from amphorad.tls_files import pool_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from amphorad.model import MemberTls, Pool

__all__ = ["PoolTls", "pool_tls"]

DAY_S = 86400
EXPIRY_WARNING_S = 14 * DAY_S  # the controller renews its own certificates then
SPOKEN = ("h2", "http/1.1", "http/1.0")  # by HTTP pools, whatever their ALPN names beside it

HANDSHAKE_ALARM_INTERVAL_S = 60.0


@dataclass(slots=True, eq=False)
class PoolTls:
    """A pool's context, what it was made from, and what was told of it. `place` names the pool in messages."""

    place: str
    options: MemberTls
    mode: Mode
    files: dict[str, bytes] = field(repr=False)  # there are private keys inside
    context: MemberContext = field(repr=False)
    failures: int = 0
    alarmed_at: float = float("-inf")

    def expiry_alarms(self) -> list[str]:
        """A warning when the certificate that members get to see has expired or is about to."""
        alarms = []
        for file, left_s in self.context.expiries:
            if left_s <= 0:
                alarms.append(f"{self.place}: certificate {file} has expired")
            elif left_s < EXPIRY_WARNING_S:
                alarms.append(f"{self.place}: certificate {file} expires in {left_s // DAY_S} days")
        return alarms

    def failure_alarm(self, now: float) -> str | None:
        """Tells of handshakes that failed, once a minute at most."""
        count, reason = self.context.failures()
        if count == self.failures or now - self.alarmed_at < HANDSHAKE_ALARM_INTERVAL_S:
            return None
        self.failures, self.alarmed_at = count, now
        return f"{self.place}: SSL handshake failure with a member ({count} so far, latest: {reason})"


def pool_tls(listener_id: str, pool: Pool, files: Mapping[str, bytes], known: PoolTls | None) -> PoolTls | None:
    """How the pool's members are spoken to; `known`, unless options or the bytes of a file have changed. None: plain.

    Raises:
        ConfigError: a file's content is missing, or a certificate, key, CA, CRL or cipher list is unusable; the message names
            the file or the option.
    """
    if pool.tls is None:
        return None
    place = f"pool {pool.id} of listener {listener_id}"
    for path in pool_files(pool.tls):
        if path not in files:
            raise ConfigError(f"{place}: the content of a file is missing", word=path)
    own = {path: files[path] for path in pool_files(pool.tls)}
    if known is not None and (known.options, known.mode, known.files) == (pool.tls, pool.mode, own):
        return known
    try:
        return PoolTls(place, pool.tls, pool.mode, own, _context(pool.tls, pool.mode, own))
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from error


def _context(tls: MemberTls, mode: Mode, files: Mapping[str, bytes]) -> MemberContext:
    """HTTP pools offer what they can speak to their members; a TCP pool's protocol is its clients' affair."""

    def named(path: str | None) -> tuple[str, bytes] | None:
        return (path, files[path]) if path is not None else None

    protocols = tls.alpn or ()
    return MemberContext(
        certificate=named(tls.certificate_file),
        ca=named(tls.ca_file) if tls.verify else None,
        crl=named(tls.crl_file) if tls.verify else None,
        ciphers=tls.ciphers,
        ciphersuites=tls.ciphersuites,
        versions=tls.versions,
        protocols=[name.encode() for name in protocols if mode is not Mode.HTTP or name in SPOKEN],
    )
