"""Counters since the last heartbeat: the difference to what was reported then, kept on disk over a restart of the agent.

A counter that is smaller than before has started anew: all of it is news. Source: Octavia contract section 3.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from amphorad.heartbeat.message import Totals

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Reported"]


class _Counts(msgspec.Struct, frozen=True):
    """One listener in the file, in the stock agent's names."""

    tx: int = 0
    rx: int = 0
    totconns: int = 0
    ereq: int = 0


class Reported:
    """What has been reported so far, by listener."""

    def __init__(self, counts: Mapping[str, _Counts] | None = None) -> None:
        self._counts = dict(counts or {})

    @classmethod
    def parse(cls, content: bytes) -> Reported:
        """From the bytes of the file.

        Raises:
            ValueError: it is damaged.
        """
        return cls(msgspec.json.decode(content, type=dict[str, _Counts]))

    def encode(self) -> bytes:
        """The bytes of the file."""
        return msgspec.json.encode(self._counts)

    def deltas(self, now: Mapping[str, Totals]) -> dict[str, Totals]:
        """What is new of every listener; it is not reported yet (see `take`)."""
        return {
            listener_id: _delta(totals, self._counts.get(listener_id, _Counts())) for listener_id, totals in now.items()
        }

    def take(self, now: Mapping[str, Totals]) -> bool:
        """These have been reported; listeners that are no more are forgotten. False when nothing has changed."""
        taken = {
            listener_id: _Counts(totals.tx, totals.rx, totals.totconns, totals.ereq)
            for listener_id, totals in now.items()
        }
        changed = taken != self._counts
        self._counts = taken
        return changed


def _delta(now: Totals, before: _Counts) -> Totals:
    def since(value: int, reported: int) -> int:
        return value - reported if value >= reported else value

    return Totals(
        tx=since(now.tx, before.tx),
        rx=since(now.rx, before.rx),
        conns=now.conns,
        totconns=since(now.totconns, before.totconns),
        ereq=since(now.ereq, before.ereq),
    )
