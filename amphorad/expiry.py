"""When the certificates of a load balancer expire: known to `status`, and told of in time.

Nothing is done about it here: an expired certificate is served all the same, as by HAProxy, and the controller renews its own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from amphorad.errors import ConfigError
from amphorad.tls_files import certificate_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from amphorad.model import LoadBalancer

__all__ = ["DAY_S", "Certificate", "ExpiryWatch", "certificates_of"]

DAY_S = 86400
WARNING_DAYS = (0, 1, 7, 30)


class Certificate(NamedTuple):
    """A listener's certificate. `not_after` is wall time in seconds."""

    listener_id: str
    file: str
    not_after: int

    def days_left(self, now: float) -> int:
        """Whole days, negative once it has expired."""
        return int((self.not_after - now) // DAY_S)


def certificates_of(
    load_balancer: LoadBalancer, files: Mapping[str, bytes], expiry_of: Callable[[bytes], int | None]
) -> tuple[Certificate, ...]:
    """The certificates of all listeners, in the order of the file; those that cannot be read are left out.

    Args:
        files: what TLS options name, by path (see `amphorad.tls_files`).
        expiry_of: tells the wall time at which the certificate of a PEM text expires; None: it cannot be read.
    """
    found = []
    for listener in load_balancer.listeners:
        crt_list = listener.tls.crt_list if listener.tls is not None else None
        if crt_list is None or crt_list not in files:
            continue
        try:
            paths = certificate_files(files[crt_list], crt_list)
        except ConfigError:
            continue
        for path in dict.fromkeys(paths):
            not_after = expiry_of(files[path]) if path in files else None
            if not_after is not None:
                found.append(Certificate(listener.id, path, not_after))
    return tuple(found)


class ExpiryWatch:
    """Tells of each certificate 30, 7 and 1 days before it expires, and when it has; once each."""

    def __init__(self) -> None:
        self._told: dict[Certificate, int] = {}

    def look(self, certificates: Iterable[Certificate], now: float) -> list[str]:
        """What is new at wall time `now`, as sentences. Certificates that are not passed any more are forgotten."""
        told, texts = self._told, []
        self._told = {}
        for certificate in certificates:
            left_s = certificate.not_after - now
            due = next((days for days in WARNING_DAYS if left_s <= days * DAY_S), None)
            if due is None:
                continue
            self._told[certificate] = due
            if told.get(certificate) != due:
                texts.append(_sentence(certificate, now))
        return texts


def _sentence(certificate: Certificate, now: float) -> str:
    what = f"listener {certificate.listener_id}: certificate {certificate.file}"
    date = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(certificate.not_after))
    if certificate.not_after <= now:
        return f"{what} has expired, on {date}"
    days = certificate.days_left(now)
    return (
        f"{what} expires in {days} day{'' if days == 1 else 's'}, on {date}"
        if days
        else f"{what} expires today, on {date}"
    )
