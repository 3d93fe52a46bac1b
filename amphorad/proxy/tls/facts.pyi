from amphorad.proxy.wire.matcher import PolicyProgram

CERTIFICATE_FACTS: tuple[str, ...]
"""HAProxy expressions of header insertions (Octavia contract section 4.10.3), in the order of the engine's enum."""

FACT_LIMITS: tuple[int, ...]
"""The most bytes that each can have."""

def choose_policy(program: PolicyProgram, request: bytes, der: bytes | None, *, verify: int = 0) -> int | None:
    """For tests: as `PolicyProgram.choose`, of a client with that certificate (DER), or None, on a TLS connection.

    Raises:
        ValueError: it is not a certificate, or the request not a complete head.
    """
