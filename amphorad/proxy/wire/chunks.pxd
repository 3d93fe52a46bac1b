"""Chunked bodies (RFC 9112 7.1), read where they lie: no I/O and no allocation.

Limits: chunk-size digits 16 (value below 2**60), extension bytes per chunk 256, trailer section 8192 bytes and as many
fields as a head. Beyond any of them: an error.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef struct ChunkDecoder:       # zero bytes = ready for a chunked body
    uint64_t remaining          # payload bytes left in this chunk
    uint32_t seen               # bytes in the present line or section, against the limits
    uint32_t name_hash          # of the present trailer field's name
    uint8_t state
    uint8_t digits
    uint8_t trailer_fields
    uint16_t name_length        # of the present trailer field's name

# Bytes of `data` that belong to the chunked body (all of them unless it ends); `done` becomes 1 at its end.
# -1: malformed.
# The engine forwards exactly what was consumed, so a partial line may be forwarded before it proves malformed:
# the connection then ends without a final chunk, which no recipient can take for a complete message.
cdef int64_t feed_chunks(ChunkDecoder *decoder, const uint8_t *data, uint64_t length, int *done) noexcept nogil

# The same, for a recipient that does not know chunks (HTTP/1.0): framing and trailers are taken out in place, and
# `payload` bytes remain at `data`.
cdef int64_t strip_chunks(ChunkDecoder *decoder, uint8_t *data, uint64_t length, int *done, uint64_t *payload) noexcept nogil
