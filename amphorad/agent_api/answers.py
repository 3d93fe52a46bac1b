"""What is sent back to the controller: status, body, headers, and the shapes of error bodies.

Two shapes of errors exist (Octavia contract section 1.3): an object with `message` and often `details`, made by a route, and
`{"error": "<code> <name>: <text>", "http_code": <code>}`, made by the frame around the routes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from amphorad.errors import AmphoradError

__all__ = ["JSON", "TEXT", "Answer", "Refusal", "etag_of", "frame_error", "message", "ok"]

JSON = "application/json"
TEXT = "text/plain"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. `etag` is sent without quotes, as the stock agent does."""

    status: int
    body: bytes
    content_type: str = JSON
    etag: str | None = None
    allow: str | None = None

    @classmethod
    def json(cls, value: Any, *, status: int = 200, etag: str | None = None, allow: str | None = None) -> Answer:
        return cls(status, msgspec.json.encode(value), etag=etag, allow=allow)


class Refusal(AmphoradError):
    """A call ends here with this answer; nothing has been changed."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status} {answer.body[:200]!r}")
        self.answer = answer


def ok(*, status: int = 200, details: str | None = None, etag: str | None = None) -> Answer:
    """The `{"message": "OK"}` of nearly every route."""
    return message("OK", status=status, details=details, etag=etag)


def message(text: str, *, status: int, details: str | None = None, etag: str | None = None) -> Answer:
    """An answer made by a route: `message` and, if there is more to say, `details`."""
    body = {"message": text} if details is None else {"message": text, "details": details}
    return Answer.json(body, status=status, etag=etag)


def frame_error(status: int, text: str, *, allow: str | None = None) -> Answer:
    """An answer made by the frame around the routes: unknown path, wrong method, body of the wrong shape, own failure."""
    body = {"error": f"{status} {HTTPStatus(status).phrase}: {text}", "http_code": status}
    return Answer.json(body, status=status, allow=allow)


def etag_of(content: bytes) -> str:
    """MD5 of the raw bytes in lower-case hexadecimal digits: a comparison of contents, no protection.

    Source: Octavia contract section 1.3; certificates are compared by it (section 1.5, routes 13 to 15).
    """
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
