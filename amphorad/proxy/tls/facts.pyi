CERTIFICATE_FACTS: tuple[str, ...]
"""HAProxy expressions of header insertions (Octavia contract section 4.10.3), in the order of the engine's enum."""
