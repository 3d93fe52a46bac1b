from collections.abc import Sequence

def objections(pieces: Sequence[bytes]) -> list[tuple[int, int, int]]:
    """What is objected to in the bytes of a connection, from its preface on, and each time gone over: for tests.

    Returns:
        The error (RFC 9113 section 7); the stream that libnghttp2 must not have for it to count, or 0: it counts in any case;
        and up to where the bytes are good: a frame's beginning, or what of it came in an earlier piece.
    """
