"""Method and raw request target -> route and parameters. Pure.

Works on the raw target rather than on a parsed URL, because the controller's version discovery asks for `GET //`, which URL
parsers and routers take for something else than `/`; here both are the same (Octavia contract section 1.4). Segments are split
first and percent-decoded afterwards, so an encoded slash never makes another path. A trailing slash is another path, thus 404.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from amphorad.agent_api.answers import Answer, Refusal, frame_error

__all__ = ["Call", "Handler", "Match", "Route", "Router", "segments_of"]

MAX_TARGET = 2048  # bytes; the longest that the controller makes is about 150

_UNKNOWN_PATH = "no such path here; see the list of routes of the amphora API"
_WRONG_METHOD = "this path does not take this method"


@dataclass(frozen=True, slots=True)
class Call:
    """What a route is called with: its parameters, decoded, and the whole body."""

    parameters: Mapping[str, str]
    body: bytes = b""

    def __getitem__(self, name: str) -> str:
        return self.parameters[name]


Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Args:
        method: in capitals; GET also answers HEAD.
        path: as in Octavia contract section 1.4; a segment in braces is a parameter.
        handler: what to call.
        limit_bytes: how long a body may be; None when the route reads none.
        mutates: it changes something, so it waits for its turn.
    """

    method: str
    path: str
    handler: Handler
    limit_bytes: int | None = None
    mutates: bool = False

    @property
    def pattern(self) -> tuple[str, ...]:
        return tuple(self.path.split("/")[1:])


@dataclass(frozen=True, slots=True)
class Match:
    """A route with the parameters that the path gave."""

    route: Route
    parameters: Mapping[str, str]


class Router:
    """All routes; where a fixed segment and a parameter both fit, the fixed one goes first."""

    def __init__(self, routes: Sequence[Route]) -> None:
        by_fixed_segments = sorted(routes, key=lambda route: tuple(_is_parameter(part) for part in route.pattern))
        self._routes = [(route.pattern, route) for route in by_fixed_segments]

    def match(self, method: str, target: str) -> Match:
        """Finds the route of a request.

        Raises:
            Refusal: 404 for an unknown path, 405 for a wrong method; for OPTIONS, the answer 200 with the allowed methods.
        """
        segments = segments_of(target)
        fitting = [] if segments is None else self._fitting(segments)
        if not fitting:
            raise Refusal(frame_error(404, _UNKNOWN_PATH))
        wanted = "GET" if method == "HEAD" else method
        for found in fitting:
            if found.route.method == wanted:
                return found
        allow = _allow(found.route.method for found in fitting)
        if method == "OPTIONS":
            raise Refusal(Answer.json({"message": "OK"}, allow=allow))
        raise Refusal(frame_error(405, _WRONG_METHOD, allow=allow))

    def _fitting(self, segments: tuple[str, ...]) -> list[Match]:
        found = []
        for pattern, route in self._routes:
            if len(pattern) != len(segments):
                continue
            parameters = _parameters(pattern, segments)
            if parameters is not None:
                found.append(Match(route, parameters))
        return found


def segments_of(target: str) -> tuple[str, ...] | None:
    """The decoded segments of a request target, without query and fragment; None when it is no path.

    `//` is `/`. A segment that is not UTF-8 stays recognisable as wrong: the bytes that do not fit become surrogates, which no
    identifier allows. RFC 9112 section 3.2 (origin form and absolute form).
    """
    if len(target) > MAX_TARGET:
        return None
    path = target.partition("?")[0].partition("#")[0]
    scheme, separator, rest = path.partition("://")
    if separator and scheme.lower() in {"http", "https"}:
        path = "/" + rest.partition("/")[2]
    if path == "//":
        path = "/"
    if not path.startswith("/"):
        return None
    return tuple(_decoded(part) for part in path.split("/")[1:])


def _decoded(segment: str) -> str:
    return unquote_to_bytes(segment.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def _is_parameter(part: str) -> bool:
    return part.startswith("{")


def _parameters(pattern: tuple[str, ...], segments: tuple[str, ...]) -> dict[str, str] | None:
    parameters = {}
    for part, segment in zip(pattern, segments, strict=True):
        if not _is_parameter(part):
            if part != segment:
                return None
        elif segment:
            parameters[part[1:-1]] = segment
        else:
            return None
    return parameters


def _allow(methods: Iterable[str]) -> str:
    allowed = {"OPTIONS", *methods}
    if "GET" in allowed:
        allowed.add("HEAD")
    return ", ".join(sorted(allowed))
