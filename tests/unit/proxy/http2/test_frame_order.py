"""Frame headers against a model of RFC 9113 section 5.1 that remembers every stream."""

from __future__ import annotations

import itertools
import struct

from hypothesis import given
from hypothesis import strategies as st

from amphorad.proxy.http2.frame_order import objections
from tests.support.http2_client import PREFACE
from tests.support.http2_end import frame

DATA, HEADERS, PRIORITY, RST_STREAM, PING = 0, 1, 2, 3, 6
PROTOCOL_ERROR, STREAM_CLOSED = 1, 5
REMEMBERED = 128

streams = st.one_of(st.integers(0, 12), st.integers(0, 600), st.sampled_from([2**31 - 1, 2**31 - 2, 2**31 - 255]))
kinds = st.sampled_from([DATA, HEADERS, PRIORITY, RST_STREAM, PING, 9, 200])
frames = st.lists(
    st.tuples(kinds, st.sampled_from([0, 1, 4, 5, 0xFF]), streams, st.binary(max_size=20), st.booleans()), max_size=60
)


def written(kind: int, flags: int, stream: int, payload: bytes, depends: bool) -> bytes:
    """`depends`: a PRIORITY frame's stream on itself, with the exclusive flag if it has flags."""
    if kind == PRIORITY and depends:
        payload = struct.pack(">IB", stream | (0x80000000 if flags else 0), 0)
    return frame(kind, flags, stream, payload)


def expected(sent: list[bytes]) -> list[tuple[int, int, int, int]]:
    """Error, stream, and the first and last place at which it may be found."""
    found = []
    marks: dict[int, str] = {}
    latest, at = -1, len(PREFACE)
    for one in sent:
        kind, flags, stream = one[3], one[4], int.from_bytes(one[5:9]) & 0x7FFFFFFF
        payload = one[9:]
        if kind == PRIORITY and len(payload) > 4 and int.from_bytes(payload[:4]) & 0x7FFFFFFF == stream:
            found.append((PROTOCOL_ERROR, 0, at + 13, at + 13))
        if stream % 2 and kind in (DATA, HEADERS, RST_STREAM):
            if stream > latest and kind == HEADERS:
                latest, marks[stream] = stream, "open"
            if stream <= latest and latest - stream < 2 * REMEMBERED:
                before = marks.get(stream, "skipped")
                if kind == RST_STREAM or flags & 1:
                    marks[stream] = "ended"
                if kind != RST_STREAM and before != "open":
                    error = STREAM_CLOSED if before == "ended" else PROTOCOL_ERROR
                    found.append((error, stream, at, at + 8))
        at += len(one)
    return found


@given(frames=frames, cuts=st.lists(st.integers(0, 2000), max_size=30))
def test_objections_are_those_of_the_model_however_the_bytes_are_cut(
    frames: list[tuple[int, int, int, bytes, bool]], cuts: list[int]
) -> None:
    sent = [written(*one) for one in frames]
    data = PREFACE + b"".join(sent)
    places = [0, *sorted({place for place in cuts if place < len(data)}), len(data)]
    pieces = [data[begin:end] for begin, end in itertools.pairwise(places)]

    whole, cut, model = objections([data]), objections(pieces), expected(sent)

    assert whole == [(error, stream, at) for error, stream, at, _last in model]
    assert [found[:2] for found in cut] == [found[:2] for found in whole]
    for (_error, _stream, at), (_e, _s, first, last) in zip(cut, model, strict=True):
        assert first <= at <= last


@given(data=st.binary(max_size=300), cut=st.integers(0, 300))
def test_any_bytes_are_read_over(data: bytes, cut: int) -> None:
    pieces = [PREFACE, data[:cut], data[cut:]]

    assert [found[:2] for found in objections(pieces)] == [found[:2] for found in objections([PREFACE + data])]
