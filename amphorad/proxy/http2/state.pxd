"""What an HTTP/2 connection and a stream of it are made of, on either side.

Who owns what: the carrier's session owns the Connection, which owns libnghttp2's session and the Streams. A Stream lives until
libnghttp2 has closed it and its session, if it had one, has let go of it.

Towards a member: the thread owns the Trunk, which owns socket, TLS and libnghttp2's session. Each exchange has a MemberConn
without a descriptor, which owns its MemberStream; that may outlive the trunk, and the trunk's stream may outlive it.

    response of a stream, and request of a member's: R_HEAD (1xx any number of times) -> R_BODY or the R_CHUNK_* states -> R_DONE
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from amphorad.proxy.engine.runtime cimport Block, Conn, Member, MemberConn, Session
from amphorad.proxy.http2.frame_order cimport FrameOrder
from amphorad.proxy.http2.nghttp2 cimport nghttp2_session

cdef enum:                      # BodyReader.state
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
    END_SENT = 8
    DEFERRED = 16               # libnghttp2 waits for `nghttp2_session_resume_data`
    CLOSED = 32                 # libnghttp2 has forgotten it
    RESET = 64                  # it ended before its response

cdef enum:                      # MemberStream.flags
    BODY_CHUNKED_OUT = 1        # the session reads the body in chunks, because its length was not announced
    HEAD_RECEIVED = 2           # of the final response
    BEGUN = 4                   # any header section came
    RESPONSE_ENDED = 8          # END_STREAM was received
    ALL_DELIVERED = 16          # the session has read the whole response
    PAYLOAD_DEFERRED = 32       # libnghttp2 waits for `nghttp2_session_resume_data`
    REQUEST_SENT = 64           # libnghttp2 has the whole request
    OVER = 128                  # libnghttp2 has forgotten it, or the connection has ended
    TO_HEAD = 256               # what was asked was HEAD

cdef enum:                      # MemberStream.fate: why it ended without the whole response
    FATE_NONE = 0
    FATE_LOST                   # the connection ended
    FATE_RESET                  # the member gave it up
    FATE_REFUSED                # the member has not looked at the request
    FATE_HTTP_1                 # it wants it over HTTP/1.1
    FATE_MALFORMED              # what it sent is no response

cdef struct Chain:              # bytes in blocks, first in, first out
    Block *first
    Block *last
    uint64_t length

cdef struct BodyReader:
    int64_t left
    uint64_t size               # of the chunk whose size line is being read
    uint32_t line_length        # of the present trailer line
    uint8_t state

cdef struct Inbound:            # the body of a message that came in frames
    Chain payload
    Block *trailers             # lines

cdef struct Outbound:           # the body of a message that leaves in frames
    BodyReader reader
    Chain payload
    Block *trailers             # lines

cdef struct Budget:             # what the other side may still cost before it has gone too far
    int32_t left
    uint64_t since_ms

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

cdef struct Reply:              # a response's header section while it is received; it lives in a Block
    int64_t content_length      # -1: not announced
    uint32_t used
    uint16_t status             # 0: not yet
    uint8_t is_too_large
    uint8_t[16384] lines

cdef struct Stream:
    Connection *connection
    Session *session            # NULL: not begun, or over
    Stream *next
    Stream *previous
    int32_t id
    uint16_t flags
    Block *head                 # of the request, as HTTP/1.1; what is left of it to read
    Inbound request
    Outbound response
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
    Budget budget
    uint64_t progress_ms        # a stream began or ended
    uint8_t is_draining         # GOAWAY was sent
    uint8_t is_condemned        # it has gone too far, and ends with `verdict`
    uint32_t verdict
    FrameOrder order

cdef struct MemberStream:
    Trunk *trunk                # NULL: the connection has ended
    MemberConn *member_conn
    MemberStream *next
    MemberStream *previous
    int32_t id                  # 0: no request yet
    uint16_t flags
    uint8_t fate
    uint64_t asked_ms
    Chain heads                 # of responses, as HTTP/1.1
    Inbound response
    Outbound request

cdef struct Trunk:
    Conn conn                   # first: a Conn pointer is a Trunk pointer
    nghttp2_session *engine
    Member *member
    Trunk *next                 # of the member's list of this thread
    Trunk *previous
    MemberStream *streams       # that belong to an exchange
    Block *draft                # while a header section is received: a Reply
    uint32_t open               # streams of libnghttp2's, also those that nobody waits for any more
    uint32_t uses
    uint64_t heard_ms           # when bytes came last
    Budget budget
    uint8_t has_settings        # the member's, which say how many streams it takes
    uint8_t is_listed           # it may get further streams
    uint8_t is_kept             # it serves one client, whose requests come one after the other
    uint8_t is_idle             # listed, without a stream, and counted as such
    uint8_t is_condemned
    uint32_t verdict
