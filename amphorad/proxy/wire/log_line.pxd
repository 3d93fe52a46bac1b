"""One traffic-log line as one syslog datagram (RFC 3164 local form; HAProxy configuration manual 8.2.6 and 8.6).

No I/O, no clock, no allocation while formatting: a compiled format, a record of what happened and a buffer go in, bytes
come out. A format is compiled under the interpreter lock (`LogProgram`, or `compile_format`), is immutable afterwards
and may be used by any number of threads; a `LogClock` belongs to one thread.

Limits: the request line counts up to REQUEST_LINE_LIMIT bytes. A line ends at `room`: text is cut there, a number or an
address that does not fit whole is left out, and the last byte is always LF. HAProxy's own limit is DATAGRAM_LIMIT.

Control characters never reach the line: in a request line every byte outside 0x20-0x7E and the characters `"` and `#`
become `#XX`, as in HAProxy; in other text (names, distinguished names) only 0x00-0x1F and 0x7F do, where HAProxy writes
them raw.
"""

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

from amphorad.proxy.wire.log_clock cimport LogClock
from amphorad.proxy.wire.log_text cimport LogAddress

cdef enum:
    DATAGRAM_LIMIT = 1025           # HAProxy's default: 1024 bytes and the LF; a good `room`
    REQUEST_LINE_LIMIT = 1023       # HAProxy's tune.http.logurilen less the terminator

cdef struct LogText:
    const char *data                # NULL: absent
    uint32_t length

cdef enum:                          # LogTlsText, in the order of the names in `log_line.pyx`
    LOG_SUBJECT = 0                 # %[ssl_c_s_dn]
    LOG_COMMON_NAME                 # %[ssl_c_s_dn(cn)]
    LOG_ISSUER                      # %[ssl_c_i_dn]
    LOG_SHA1                        # %[ssl_c_sha1,hex]
    LOG_NOT_BEFORE                  # %[ssl_c_notbefore]
    LOG_NOT_AFTER                   # %[ssl_c_notafter]
    LOG_TLS_VERSION                 # %sslv
    LOG_TLS_CIPHER                  # %sslc
    LOG_SNI                         # %[ssl_fc_sni]
    LOG_ALPN                        # %[ssl_fc_alpn]
    LOG_TLS_TEXTS

cdef struct LogRecord:              # zero bytes are a valid record; pointers are borrowed for the call
    # who
    LogText listener                # %f
    LogText pool                    # pool id; %b is `pool:listener`, or the listener alone without a pool
    LogText member                  # %s; absent: <NOSRV>
    LogAddress client               # %ci %cp
    LogAddress bind                 # %fi %fp, where the client connected to
    LogAddress source               # %bi %bp, our end of the member connection
    LogAddress target               # %si %sp, the member's address
    # when: wall clock for dates, durations in milliseconds; -1: that phase was not reached
    int64_t accept_wall_us          # %t: accept, or begin of the request on a kept-alive connection; since the epoch
    int64_t total_ms                # %Tt, from there to the last byte
    int32_t handshake_ms            # %Th, TLS and PROXY protocol
    int32_t idle_ms                 # %Ti, from there to the first byte of the request
    int32_t request_ms              # %TR, first byte to complete head
    int32_t queue_ms                # %Tw
    int32_t connect_ms              # %Tc
    int32_t response_ms             # %Tr, member connected to complete response head
    # what
    LogText request_line            # %r, without CRLF; absent: <BADREQ>. %HM %HU %HP %HQ %HV are parts of it
    int16_t status                  # %ST; -1: nothing was sent
    uint64_t bytes_out              # %B, to the client, heads included
    uint64_t bytes_in               # %U, from the client
    char termination[4]             # %ts: the first two, %tsc: all; a zero byte is written as `-`
    LogText unique_id               # %ID
    # TLS of the client side
    uint8_t tls                     # 0 plain, 1 TLS
    uint32_t tls_verify             # %[ssl_c_verify]: X509 verify error, 0 is ok
    uint8_t tls_used                # %[ssl_c_used]: the client presented a certificate
    uint8_t tls_named               # %[ssl_fc_has_sni]
    uint8_t tls_resumed             # %[ssl_fc_is_resumed]
    LogText tls_texts[10]           # by LogTlsText
    # counters at the end of the session
    uint32_t process_connections    # %ac
    uint32_t listener_connections   # %fc
    uint32_t pool_connections       # %bc
    uint32_t member_connections     # %sc
    uint32_t retries                # %rc
    uint8_t redispatched            # 1: %rc gets a `+`
    uint32_t member_queue           # %sq
    uint32_t pool_queue             # %bq
    uint32_t line_number            # %lc
    uint32_t request_number         # %rt

cdef struct LogOp:                  # a literal, then a variable
    uint8_t code
    uint8_t flags                   # LogFlag bits
    uint32_t literal                # offset in `bytes`
    uint32_t literal_length

cdef struct LogFormat:
    LogOp *ops                      # owned; the last one has code 0 (end)
    char *bytes                     # owned: literals, the `<PRI>` and the ` tag[pid]: ` of the header
    uint32_t priority               # offsets in `bytes`
    uint32_t priority_length
    uint32_t tag
    uint32_t tag_length
    uint32_t room                   # bytes of a line
    uint32_t tls_texts              # bit per LogTlsText that the format has; the others need not be filled in

# Parsed segments -> program. `segments`: sequence of (literal bytes, variable name or None, LogFlag bits); a name
# that is not in VARIABLES is written as an absent value. Raises ValueError for a facility outside 0-23, MemoryError.
cdef LogFormat *compile_format(object segments, int facility, bytes tag, long pid, bytes host, uint32_t room) except NULL
cdef void release_format(LogFormat *format) noexcept nogil

# Writes the datagram, severity info, dated `now_s` (wall clock). Returns bytes written: at most `room`, 0 only for room 0.
cdef int64_t format_line(const LogFormat *format, const LogRecord *record, LogClock *clock, int64_t now_s,
                         char *out, uint32_t room) noexcept nogil

# What HAProxy logs of a client without a session: `<address>:<port> [<date>] <listener>/<bind>: <text>`. As `format_line`.
cdef int64_t format_notice(const LogFormat *format, const LogRecord *record, uint32_t bind, const char *text,
                           LogClock *clock, int64_t now_s, char *out, uint32_t room) noexcept nogil


cdef class LogProgram:              # owns a LogFormat
    cdef LogFormat *format
    cdef LogClock clock             # of `line`, not of the engine
