"""What one check found and what followed from it, in the words HAProxy's logs use for them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from amphorad.plan import MemberKey

__all__ = ["INFO_LIMIT", "CheckResult", "CheckStatus", "Finding", "PoolCount", "Verdict"]

INFO_LIMIT: Final = 120
"""Characters of what a member said that are repeated in logs and status."""


class CheckStatus(Enum):
    """The outcome of a check: a short code and a text, as in HAProxy's `show stat` and logs.

    `LOCAL` is ours: the check could not be made for want of descriptors, ports, memory or permission. That says nothing
    about the member, so it changes nothing (HAProxy counts it as a failure and may take a whole pool down with it).
    """

    L4OK = ("L4OK", "Layer4 check passed", True)
    L4TOUT = ("L4TOUT", "Layer4 timeout", False)
    L4CON = ("L4CON", "Layer4 connection problem", False)
    L6OK = ("L6OK", "Layer6 check passed", True)
    L6TOUT = ("L6TOUT", "Layer6 timeout", False)
    L6RSP = ("L6RSP", "Layer6 invalid response", False)
    L7OK = ("L7OK", "Layer7 check passed", True)
    L7TOUT = ("L7TOUT", "Layer7 timeout", False)
    L7RSP = ("L7RSP", "Layer7 invalid response", False)
    L7STS = ("L7STS", "Layer7 wrong status", False)
    SOCKERR = ("SOCKERR", "Socket error", False)
    PROCOK = ("PROCOK", "External check passed", True)
    PROCERR = ("PROCERR", "External check error", False)
    PROCTOUT = ("PROCTOUT", "External check timeout", False)
    HANA = ("HANA", "Health analyze", False)  # no check: what live traffic showed
    LOCAL = ("LOCAL", "Local resource problem", None)

    def __init__(self, code: str, text: str, passed: bool | None) -> None:
        self.code = code
        self.text = text
        self.passed = passed


class Finding(NamedTuple):
    """What a probe concludes. `code` is the status of an answer, or the exit code that stands for a PING result."""

    status: CheckStatus
    code: int | None = None
    info: str = ""


class CheckResult(NamedTuple):
    """A finding and how long the check took, in seconds; negative when there was none."""

    status: CheckStatus
    code: int | None
    info: str
    duration_s: float

    @property
    def text(self) -> str:
        """`Layer7 wrong status, code: 500, info: "Oops", check duration: 3ms`"""
        parts = [self.status.text]
        if self.code is not None:
            parts.append(f"code: {self.code}")
        if self.info:
            parts.append(f'info: "{self.info}"')
        if self.duration_s >= 0:
            parts.append(f"check duration: {self.duration_s * 1000:.0f}ms")
        return ", ".join(parts)


class PoolCount(NamedTuple):
    """Members of a pool that can take new clients, after a transition."""

    active: int
    backup: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A member changed its state.

    Args:
        result: the check that decided, or None when something else did (`reason`).
        count: what is left of the pool.
        sessions: at the member at this moment.
        backup: the member is a backup.
    """

    key: MemberKey
    up: bool
    result: CheckResult | None
    count: PoolCount
    sessions: int = 0
    reason: str = ""
    backup: bool = False

    @property
    def log_line(self) -> str:
        """The line that HAProxy writes (Octavia contract section 4.11). Queues do not exist here, hence the zeros."""
        key = self.key
        line = "Backup Server" if self.backup else "Server"
        line += f" {key.pool_id}:{key.listener_id}/{key.member_id} is {'UP' if self.up else 'DOWN'}"
        if self.result is None:
            return f"{line}, {self.reason}"
        active, backup = self.count
        on_backup = " Running on backup." if backup and not active else ""
        line += f", reason: {self.result.text}. {active} active and {backup} backup servers"
        if self.up:
            return f"{line} online.{on_backup} 0 sessions requeued, 0 total in queue."
        return f"{line} left.{on_backup} {self.sessions} sessions active, 0 requeued, 0 remaining in queue."

    @property
    def pool_log_line(self) -> str | None:
        """The line about the pool when this was its last member."""
        if self.up or self.count != (0, 0):
            return None
        return f"backend {self.key.pool_id}:{self.key.listener_id} has no server available!"
