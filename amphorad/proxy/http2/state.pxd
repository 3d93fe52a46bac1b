"""What an HTTP/2 connection and a stream of it are made of.

Who owns what: the carrier's session owns the Connection, which owns libnghttp2's session and the Streams. A Stream lives until
libnghttp2 has closed it and its session, if it had one, has let go of it.

    response of a stream: R_HEAD (1xx any number of times) -> R_BODY or the R_CHUNK_* states -> R_DONE
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from amphorad.proxy.engine.runtime cimport Block, Session
from amphorad.proxy.http2.frame_order cimport FrameOrder
from amphorad.proxy.http2.nghttp2 cimport nghttp2_session

cdef enum:                      # ResponseReader.state
    R_HEAD = 0
    R_BODY                      # `left` bytes, or up to the end when that is UNTIL_END
    R_CHUNK_SIZE
    R_CHUNK_EXTENSION
    R_CHUNK_DATA
    R_CHUNK_END
    R_TRAILERS
    R_DONE

cdef enum:                      # Stream.flags
    REQUEST_ENDED = 1           # END_STREAM was received
    BODY_CHUNKED_IN = 2         # the session reads the body in chunks, because its length was not announced
    END_DELIVERED = 4           # the session has read the whole request
    RESPONSE_BEGUN = 8          # the final header section is with libnghttp2
    END_SENT = 16
    DEFERRED = 32               # libnghttp2 waits for `nghttp2_session_resume_data`
    CLOSED = 64                 # libnghttp2 has forgotten it
    RESET = 128                 # it ended before its response
    TRAILERS_SENT = 256

cdef struct Chain:              # bytes in blocks, first in, first out
    Block *first
    Block *last
    uint64_t length

cdef struct ResponseReader:
    int64_t left
    uint64_t size               # of the chunk whose size line is being read
    uint32_t line_length        # of the present trailer line
    uint8_t state

cdef struct Draft:              # one header section while it is received; it lives in a Block
    uint32_t method_length
    uint32_t scheme
    uint32_t scheme_length
    uint32_t authority
    uint32_t authority_length
    uint32_t path
    uint32_t path_length
    uint32_t cookies            # where the joined Cookie value begins
    uint32_t cookies_length
    uint32_t values_used
    uint32_t lines_used
    uint32_t host_length
    uint32_t received           # bytes of names and values, stored or not
    int64_t content_length      # -1: not announced
    uint8_t has_host
    uint8_t has_authority
    uint8_t is_too_large
    char[256] host
    uint8_t[16384] values       # method, then the other pseudo fields, then cookies
    uint8_t[16384] lines

cdef struct Stream:
    Connection *connection
    Session *session            # NULL: not begun, or over
    Stream *next
    Stream *previous
    int32_t id
    uint16_t flags
    ResponseReader reader
    Block *head                 # of the request, as HTTP/1.1; what is left of it to read
    Block *request_trailers     # lines
    Block *response_trailers    # lines
    Chain inbound               # payload of the request
    Chain outbound              # payload of the response
    int64_t request_left        # of an announced length
    uint64_t progress_ms

cdef struct Connection:
    nghttp2_session *engine
    Session *carrier
    Stream *streams
    Stream *spare
    Block *draft                # while a header section is received
    uint32_t stream_count
    uint32_t spare_count
    int32_t budget              # what the client may still cost before it has gone too far
    uint64_t budget_ms
    uint64_t progress_ms        # a stream began or ended
    uint8_t is_draining         # GOAWAY was sent
    uint8_t is_condemned        # it has gone too far, and ends with `verdict`
    uint32_t verdict
    FrameOrder order
