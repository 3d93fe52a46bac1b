"""OCSP responses beside the certificates of a listener: which are sent to clients, and why others are not.

An operator's option, off by default. A response that cannot be used is no reason to refuse a configuration: the certificate is
served without it, and an alarm says why. So is one that expires while it is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amphorad.proxy.tls.stapling import check_response
from amphorad.tls_files import ISSUER_SUFFIX, RESPONSE_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Staple", "StapleWatch", "staples_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Staple:
    """A response to a certificate's file. `until`: wall time in seconds at which it ends; `reason`: why it is not sent."""

    file: str
    response: bytes
    until: int = 0
    reason: str | None = None


def staples_of(certificates: Iterable[str], files: Mapping[str, bytes], now: float) -> tuple[Staple, ...]:
    """Those that lie beside the certificates, judged at wall time `now`. `files` holds what was read, by path."""
    found = []
    for file in dict.fromkeys(certificates):
        response = files.get(file + RESPONSE_SUFFIX)
        if response is None:
            continue
        try:
            until = check_response(files[file], files.get(file + ISSUER_SUFFIX, b""), response, now)
        except ValueError as error:
            found.append(Staple(file=file, response=response, reason=str(error)))
        else:
            found.append(Staple(file=file, response=response, until=until))
    return tuple(found)


class StapleWatch:
    """Tells of the responses of one listener that are not sent: once when they are read, and once when they expire."""

    def __init__(self, listener_id: str, staples: Iterable[Staple]) -> None:
        self._listener_id = listener_id
        self._due = sorted(staples, key=lambda staple: staple.until, reverse=True)

    def look(self, now: float) -> list[str]:
        """What is new at wall time `now`, as sentences."""
        texts = []
        while self._due and self._due[-1].until <= now:
            staple = self._due.pop()
            reason = staple.reason or "it has expired"
            where = f"listener {self._listener_id}: OCSP response {staple.file}{RESPONSE_SUFFIX}"
            texts.append(f"{where} is not stapled: {reason}")
        return texts
