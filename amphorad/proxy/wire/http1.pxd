"""HTTP/1 messages as offset tables (RFC 9112, RFC 9110): heads, framing, and writing heads again. Chunked bodies: chunks.pxd.

No I/O and no allocation: a buffer goes in, offsets or an error come out. The engine, the tests and the fuzzers call the
same functions. Offsets count from the first byte of the head. Names, and the value `chunked`, are lower-cased in
place.

Limits: head bytes (HEAD_LIMIT, the caller may pass less), MAX_FIELDS fields. Beyond any of them: an error.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    MAX_FIELDS = 128
    HEAD_LIMIT = 65535          # offsets are 16 bit

cdef enum ParseResult:          # >= 0: outcome; < 0: minus the HTTP status that a server answers
    COMPLETE = 0
    NEED_MORE = 1
    BAD_REQUEST = -400          # for a response: the member sent garbage (the engine answers 502)
    URI_TOO_LONG = -414
    HEAD_TOO_LARGE = -431
    NOT_IMPLEMENTED = -501      # a transfer coding other than chunked; CONNECT

cdef enum FieldId:              # fields the proxy acts on; OTHER for all else
    OTHER = 0
    HOST
    CONNECTION
    KEEP_ALIVE
    PROXY_CONNECTION
    TE
    TRAILER
    TRANSFER_ENCODING
    CONTENT_LENGTH
    UPGRADE
    EXPECT
    X_FORWARDED_FOR
    X_FORWARDED_PORT
    X_FORWARDED_PROTO
    COOKIE
    SET_COOKIE
    WWW_AUTHENTICATE
    PROXY_AUTHENTICATE
    AUTHORIZATION
    DATE
    SERVER
    CACHE_CONTROL
    LOCATION

cdef enum Method:               # OTHER_METHOD: any other token, forwarded, never called idempotent
    OTHER_METHOD = 0
    GET
    HEAD
    POST
    PUT
    DELETE
    OPTIONS
    TRACE
    PATCH
    CONNECT

cdef enum BodyKind:
    NO_BODY = 0
    BODY_LENGTH                 # content_length bytes
    BODY_CHUNKED
    BODY_UNTIL_CLOSE            # responses only

cdef enum HeadFlag:
    WANTS_CLOSE = 1             # the sender ends the connection after this message (close, or 1.0 without keep-alive)
    WANTS_KEEP_ALIVE = 2        # Connection: keep-alive was written
    WANTS_UPGRADE = 4           # Connection: upgrade together with an Upgrade field
    EXPECTS_CONTINUE = 8        # Expect: 100-continue
    BINDS_AUTHENTICATION = 16   # WWW-/Proxy-Authenticate: NTLM or Negotiate: the connection now belongs to one client

cdef enum:                      # Field.drop
    SHORTENED = 2               # the value was cut or rewritten in place; the line ends behind it

cdef struct Field:
    uint16_t name
    uint16_t name_length
    uint16_t value              # without surrounding blanks
    uint16_t value_length
    uint16_t line_end           # offset just after the line's CRLF; the line starts at `name`
    uint8_t id                  # FieldId
    uint8_t drop                # 1: hop by hop (by name or nominated by Connection): not forwarded; or SHORTENED

cdef struct Head:
    uint32_t length             # bytes of the head with its last CRLF CRLF; blank lines before it are in `skipped`
    uint32_t skipped            # empty lines before a request line (RFC 9112 2.2), to be discarded first
    uint16_t start_line_end     # offset just after the start line's CRLF
    uint8_t method              # Method (requests)
    uint8_t minor               # HTTP/1.<minor>, 0 or 1
    uint16_t method_length
    uint16_t target             # offset and length of the request target
    uint16_t target_length
    uint16_t path               # offset, also from the head's first byte, of the path (after an authority, if any)
    uint16_t path_length        # up to '?' or the target's end; 0 = "/" (absolute form without a path)
    uint16_t status             # responses
    uint16_t field_count
    uint16_t host               # index of the Host field + 1; 0 = none
    uint8_t body                # BodyKind
    uint8_t flags               # HeadFlag bits
    int64_t content_length      # BODY_LENGTH; for HEAD and 304 responses the written value, or -1
    Field fields[MAX_FIELDS]

# Head of a request. `length` bytes at `data`; the head may go on. Result: COMPLETE, NEED_MORE or an error.
# `limit` bounds the head. A caller that gets NEED_MORE calls again with more bytes from the same start; `scanned`
# (in/out, 0 at first) lets the search for the head's end go on where it stopped.
cdef int parse_request(uint8_t *data, uint32_t length, uint32_t limit, uint32_t *scanned, Head *head) noexcept nogil

# Head of a response to `method`. 1xx heads are COMPLETE with NO_BODY.
cdef int parse_response(uint8_t *data, uint32_t length, uint32_t limit, uint32_t *scanned, uint8_t method,
                        Head *head) noexcept nogil

# Writes the start line, every field whose `drop` is 0, then `extra` (complete lines with CRLF, may be NULL) and the
# last CRLF. The version becomes HTTP/1.1 (a request without Host needs one in `extra`). Returns bytes written, or -1
# when `room` is too small.
# `data` is the first byte of the head (the parser's `data` + `skipped`). `out` must not overlap it.
cdef int64_t write_head(const uint8_t *data, const Head *head, int is_request, const uint8_t *extra,
                        uint32_t extra_length, uint8_t *out, uint32_t room) noexcept nogil
