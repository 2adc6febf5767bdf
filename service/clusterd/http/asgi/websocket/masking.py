"""Removes the mask from what a client sends in a WebSocket (RFC 6455 section 5.3)."""

MASK_BYTES = 4

try:
    from clusterd.http.asgi.websocket._masking import unmask as unmask
except ImportError:  # The engine is not compiled.

    def unmask(data: bytes, mask: bytes) -> bytes:
        """Return `data` without its mask, whose first byte belongs to its first byte."""
        size = len(data)
        repeated = mask * (size // MASK_BYTES + 1)
        # As one large number: the fastest there is without C.
        number = int.from_bytes(data, "little") ^ int.from_bytes(repeated[:size], "little")
        return number.to_bytes(size, "little")
