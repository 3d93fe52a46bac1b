# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""One traffic-log line as one syslog datagram; see the declaration file for the interface and its limits.

Numbers, dates and termination letters ignore +Q, as in HAProxy 2.6; a missing address or text is `-`, or `""` with +Q.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcpy, memset, strlen

from amphorad.proxy.wire.log_clock cimport (
    LogClock,
    LogQuarter,
    find_quarter,
    put_date,
    put_date_gmt,
    put_milliseconds,
)
from amphorad.proxy.wire.log_text cimport (
    CONTROL,
    IN_REQUEST,
    LOG_ESCAPE,
    LOG_HEX,
    LOG_QUOTE,
    LogAddress,
    Writer,
    mask_of,
    put_absent,
    put_address,
    put_byte,
    put_counter,
    put_encoded,
    put_number,
    put_port,
    put_raw,
    put_sample_number,
    put_signed,
    put_text,
    put_whole,
    write_pair,
)

__all__ = ["VARIABLES", "LogProgram"]

cdef enum Code:
    END = 0
    ABSENT                          # unknown variables, and cookies nobody captures
    LISTENER
    LISTENER_TRANSPORT
    POOL
    MEMBER
    CLIENT_ADDRESS
    CLIENT_PORT
    BIND_ADDRESS
    BIND_PORT
    SOURCE_ADDRESS
    SOURCE_PORT
    TARGET_ADDRESS
    TARGET_PORT
    BYTES_OUT
    BYTES_IN
    STATUS
    REQUEST_LINE
    METHOD
    TARGET
    TARGET_NO_QUERY
    PATH
    QUERY
    VERSION
    DATE
    DATE_GMT
    DATE_LOCAL
    REQUEST_DATE
    REQUEST_DATE_GMT
    REQUEST_DATE_LOCAL
    EPOCH
    MILLISECONDS
    TIME_TOTAL
    TIME_USER
    TIME_ACTIVE
    TIME_HANDSHAKE
    TIME_IDLE
    TIME_REQUEST
    TIME_REQUEST_SINCE_ACCEPT
    TIME_QUEUE
    TIME_CONNECT
    TIME_RESPONSE
    TIME_DATA
    TERMINATION
    TERMINATION_COOKIE
    PROCESS_CONNECTIONS
    LISTENER_CONNECTIONS
    POOL_CONNECTIONS
    MEMBER_CONNECTIONS
    RETRIES
    MEMBER_QUEUE
    POOL_QUEUE
    LINE_NUMBER
    REQUEST_NUMBER
    UNIQUE_ID
    TLS
    TLS_VERIFY
    TLS_USED
    TLS_NAMED
    TLS_RESUMED
    CLIENT_ADDRESS_SAMPLE
    CLIENT_PORT_SAMPLE
    BIND_ADDRESS_SAMPLE
    BIND_PORT_SAMPLE
    PROCESS_ID                      # the last two become literals when the format is compiled
    HOST_NAME
    TLS_TEXT                        # and one for each LogTlsText

_CODES = {
    "B": BYTES_OUT, "U": BYTES_IN, "ST": STATUS, "ID": UNIQUE_ID, "H": HOST_NAME, "pid": PROCESS_ID,
    "f": LISTENER, "ft": LISTENER_TRANSPORT, "b": POOL, "s": MEMBER,
    "ci": CLIENT_ADDRESS, "cp": CLIENT_PORT, "fi": BIND_ADDRESS, "fp": BIND_PORT,
    "bi": SOURCE_ADDRESS, "bp": SOURCE_PORT, "si": TARGET_ADDRESS, "sp": TARGET_PORT,
    "r": REQUEST_LINE, "HM": METHOD, "HU": TARGET, "HP": TARGET_NO_QUERY, "HPO": PATH, "HQ": QUERY, "HV": VERSION,
    "t": DATE, "T": DATE_GMT, "Tl": DATE_LOCAL, "tr": REQUEST_DATE, "trg": REQUEST_DATE_GMT, "trl": REQUEST_DATE_LOCAL,
    "Ts": EPOCH, "ms": MILLISECONDS,
    "Tt": TIME_TOTAL, "Tu": TIME_USER, "Ta": TIME_ACTIVE, "Th": TIME_HANDSHAKE, "Ti": TIME_IDLE, "TR": TIME_REQUEST,
    "Tq": TIME_REQUEST_SINCE_ACCEPT, "Tw": TIME_QUEUE, "Tc": TIME_CONNECT, "Tr": TIME_RESPONSE, "Td": TIME_DATA,
    "ts": TERMINATION, "tsc": TERMINATION_COOKIE,
    "ac": PROCESS_CONNECTIONS, "fc": LISTENER_CONNECTIONS, "bc": POOL_CONNECTIONS, "sc": MEMBER_CONNECTIONS,
    "rc": RETRIES, "sq": MEMBER_QUEUE, "bq": POOL_QUEUE, "lc": LINE_NUMBER, "rt": REQUEST_NUMBER,
    "sslv": TLS_TEXT + LOG_TLS_VERSION, "sslc": TLS_TEXT + LOG_TLS_CIPHER,
    "CC": ABSENT, "CS": ABSENT,
    "[ssl_c_verify]": TLS_VERIFY, "[ssl_c_used]": TLS_USED, "[ssl_fc]": TLS, "[ssl_fc_has_sni]": TLS_NAMED,
    "[ssl_fc_is_resumed]": TLS_RESUMED,
    "[ssl_c_s_dn]": TLS_TEXT + LOG_SUBJECT, "[ssl_c_s_dn(cn)]": TLS_TEXT + LOG_COMMON_NAME,
    "[ssl_c_s_dn(CN)]": TLS_TEXT + LOG_COMMON_NAME, "[ssl_c_i_dn]": TLS_TEXT + LOG_ISSUER,
    "[ssl_c_sha1,hex]": TLS_TEXT + LOG_SHA1, "[ssl_c_notbefore]": TLS_TEXT + LOG_NOT_BEFORE,
    "[ssl_c_notafter]": TLS_TEXT + LOG_NOT_AFTER, "[ssl_fc_protocol]": TLS_TEXT + LOG_TLS_VERSION,
    "[ssl_fc_cipher]": TLS_TEXT + LOG_TLS_CIPHER, "[ssl_fc_sni]": TLS_TEXT + LOG_SNI, "[ssl_fc_alpn]": TLS_TEXT + LOG_ALPN,
    "[src]": CLIENT_ADDRESS_SAMPLE, "[src_port]": CLIENT_PORT_SAMPLE,
    "[dst]": BIND_ADDRESS_SAMPLE, "[dst_port]": BIND_PORT_SAMPLE,
}

VARIABLES = frozenset(_CODES)
"""Names that have a value: as written after `%`, sample expressions with their brackets."""

# --- names -------------------------------------------------------------------------------------------

cdef bint put_listener(Writer *writer, const LogRecord *record, bint transport, uint8_t flags) noexcept nogil:
    if record.listener.length == 0:
        return put_absent(writer, flags)
    if flags & LOG_QUOTE and not put_byte(writer, c'"'):
        return False
    if not put_encoded(writer, record.listener.data, record.listener.length, mask_of(CONTROL, flags)):
        return False
    if transport and record.tls and not put_byte(writer, c'~'):
        return False
    return not flags & LOG_QUOTE or put_byte(writer, c'"')


cdef bint put_pool(Writer *writer, const LogRecord *record, uint8_t flags) noexcept nogil:
    cdef uint8_t mask = mask_of(CONTROL, flags)
    if record.pool.length == 0:
        return put_listener(writer, record, False, flags)
    if flags & LOG_QUOTE and not put_byte(writer, c'"'):
        return False
    if not (put_encoded(writer, record.pool.data, record.pool.length, mask) and put_byte(writer, c':')
            and put_encoded(writer, record.listener.data, record.listener.length, mask)):
        return False
    return not flags & LOG_QUOTE or put_byte(writer, c'"')


# --- durations -----------------------------------------------------------------------------------------------------

cdef inline int64_t since_accept(const LogRecord *record) noexcept nogil:
    """Milliseconds from accept to the first byte of the request."""
    cdef int64_t wait = 0
    if record.handshake_ms > 0:
        wait += record.handshake_ms
    if record.idle_ms > 0:
        wait += record.idle_ms
    return wait


cdef int64_t data_time(const LogRecord *record) noexcept nogil:
    if record.response_ms < 0:
        return -1
    return (record.total_ms - since_accept(record) - (record.request_ms if record.request_ms > 0 else 0)
            - (record.queue_ms if record.queue_ms > 0 else 0) - (record.connect_ms if record.connect_ms > 0 else 0)
            - record.response_ms)


# --- the request line ----------------------------------------------------------------------------------------------

cdef bint put_request(Writer *writer, const LogRecord *record, uint8_t code, uint8_t flags) noexcept nogil:
    """The request line or a part of it. Parts are split at spaces, so any bytes will do; a line cut before its version
    is HTTP/0.9, as in HAProxy."""
    cdef const char *at = record.request_line.data
    cdef size_t length = record.request_line.length
    cdef const char *end
    cdef const char *stop
    cdef const char *mark
    if at == NULL:
        at = b"<BADREQ>"
        length = 8
    elif code != REQUEST_LINE:
        if length > REQUEST_LINE_LIMIT:
            length = REQUEST_LINE_LIMIT
        end = at + length
        stop = <const char *> memchr(at, c' ', <size_t> (end - at))
        if stop == NULL:
            stop = end
        if code != METHOD:
            at = stop + 1 if stop < end else end
            stop = <const char *> memchr(at, c' ', <size_t> (end - at))
            if stop == NULL:
                stop = end
            if code == VERSION:
                at = stop + 1 if stop < end else end
                stop = end
                if at == end:
                    at = b"HTTP/0.9"
                    stop = at + 8
            elif code != TARGET:
                mark = <const char *> memchr(at, c'?', <size_t> (stop - at))
                if code == QUERY:
                    at = mark if mark != NULL else stop
                else:
                    if mark != NULL:
                        stop = mark
                    if code == PATH:
                        at = skip_authority(at, stop)
        length = <size_t> (stop - at)
    elif length > REQUEST_LINE_LIMIT:
        length = REQUEST_LINE_LIMIT
    if flags & LOG_QUOTE and not put_byte(writer, c'"'):
        return False
    if not put_encoded(writer, at, length, mask_of(IN_REQUEST, flags)):
        return False
    return not flags & LOG_QUOTE or put_byte(writer, c'"')


cdef const char *skip_authority(const char *at, const char *stop) noexcept nogil:
    """Start of the path of `http://host/path`; a target without a scheme stays as it is."""
    cdef const char *scan = at
    if at == stop or at[0] == c'/' or at[0] == c'*':
        return at
    while scan + 3 <= stop:
        if scan[0] == c'/':
            return at
        if scan[0] == c':' and scan[1] == c'/' and scan[2] == c'/':
            scan += 3
            while scan < stop and scan[0] != c'/':
                scan += 1
            return scan
        scan += 1
    return at


# --- the line ------------------------------------------------------------------------------------------------------

cdef bint put_termination(Writer *writer, const LogRecord *record, int count) noexcept nogil:
    cdef char text[4]
    cdef int i
    for i in range(count):
        text[i] = record.termination[i] if 32 < record.termination[i] < 127 else c'-'
    return put_whole(writer, text, <size_t> count)


cdef bint put_header(Writer *writer, const LogFormat *format, LogClock *clock, int64_t now_s) noexcept nogil:
    cdef char text[15]
    cdef uint32_t minute, second
    cdef const LogQuarter *slot = find_quarter(clock, now_s, &minute, &second)
    memcpy(text, slot.stamp, 10)
    write_pair(text + 10, minute)
    text[12] = c':'
    write_pair(text + 13, second)
    return (put_raw(writer, format.bytes + format.priority, format.priority_length)
            and put_raw(writer, text, 15)
            and put_raw(writer, format.bytes + format.tag, format.tag_length))


cdef bint put_variable(Writer *w, const LogOp *op, const LogRecord *r, LogClock *clock) noexcept nogil:
    """The one switch over all variables: long because it is the inner loop."""
    cdef uint8_t code = op.code
    cdef uint8_t flags = op.flags
    if code == LISTENER:
        return put_listener(w, r, False, flags)
    elif code == LISTENER_TRANSPORT:
        return put_listener(w, r, True, flags)
    elif code == POOL:
        return put_pool(w, r, flags)
    elif code == MEMBER:
        if r.member.length:
            return put_text(w, r.member.data, r.member.length, flags)
        return put_text(w, b"<NOSRV>", 7, flags)
    elif code == CLIENT_ADDRESS:
        return put_address(w, &r.client, flags)
    elif code == CLIENT_PORT:
        return put_port(w, &r.client, flags)
    elif code == BIND_ADDRESS:
        return put_address(w, &r.bind, flags)
    elif code == BIND_PORT:
        return put_port(w, &r.bind, flags)
    elif code == SOURCE_ADDRESS:
        return put_address(w, &r.source, flags)
    elif code == SOURCE_PORT:
        return put_port(w, &r.source, flags)
    elif code == TARGET_ADDRESS:
        return put_address(w, &r.target, flags)
    elif code == TARGET_PORT:
        return put_port(w, &r.target, flags)
    elif code == CLIENT_ADDRESS_SAMPLE:
        return put_address(w, &r.client, flags & LOG_QUOTE)
    elif code == BIND_ADDRESS_SAMPLE:
        return put_address(w, &r.bind, flags & LOG_QUOTE)
    elif code == CLIENT_PORT_SAMPLE:
        return put_absent(w, flags) if r.client.address == NULL else put_sample_number(w, r.client.port, flags)
    elif code == BIND_PORT_SAMPLE:
        return put_absent(w, flags) if r.bind.address == NULL else put_sample_number(w, r.bind.port, flags)
    elif code == BYTES_OUT:
        return put_number(w, r.bytes_out)
    elif code == BYTES_IN:
        return put_number(w, r.bytes_in)
    elif code == STATUS:
        return put_signed(w, r.status)
    elif (code == REQUEST_LINE or code == METHOD or code == TARGET or code == TARGET_NO_QUERY or code == PATH
          or code == QUERY or code == VERSION):
        return put_request(w, r, code, flags)
    elif code == DATE:
        return put_date(w, clock, r.accept_wall_us, False)
    elif code == DATE_GMT:
        return put_date_gmt(w, r.accept_wall_us)
    elif code == DATE_LOCAL:
        return put_date(w, clock, r.accept_wall_us, True)
    elif code == REQUEST_DATE:
        return put_date(w, clock, r.accept_wall_us + since_accept(r) * 1000, False)
    elif code == REQUEST_DATE_GMT:
        return put_date_gmt(w, r.accept_wall_us + since_accept(r) * 1000)
    elif code == REQUEST_DATE_LOCAL:
        return put_date(w, clock, r.accept_wall_us + since_accept(r) * 1000, True)
    elif code == EPOCH:
        return put_counter(w, <uint64_t> (r.accept_wall_us // 1000000 if r.accept_wall_us > 0 else 0), flags)
    elif code == MILLISECONDS:
        return put_milliseconds(w, r.accept_wall_us, flags)
    elif code == TIME_TOTAL:
        return put_signed(w, r.total_ms)
    elif code == TIME_USER:
        return put_signed(w, r.total_ms - (r.idle_ms if r.idle_ms > 0 else 0))
    elif code == TIME_ACTIVE:
        return put_signed(w, r.total_ms - since_accept(r))
    elif code == TIME_HANDSHAKE:
        return put_signed(w, r.handshake_ms)
    elif code == TIME_IDLE:
        return put_signed(w, r.idle_ms)
    elif code == TIME_REQUEST:
        return put_signed(w, r.request_ms)
    elif code == TIME_REQUEST_SINCE_ACCEPT:
        return put_signed(w, r.request_ms + since_accept(r) if r.request_ms >= 0 else -1)
    elif code == TIME_QUEUE:
        return put_signed(w, r.queue_ms)
    elif code == TIME_CONNECT:
        return put_signed(w, r.connect_ms)
    elif code == TIME_RESPONSE:
        return put_signed(w, r.response_ms)
    elif code == TIME_DATA:
        return put_signed(w, data_time(r))
    elif code == TERMINATION:
        return put_termination(w, r, 2)
    elif code == TERMINATION_COOKIE:
        return put_termination(w, r, 4)
    elif code == PROCESS_CONNECTIONS:
        return put_number(w, r.process_connections)
    elif code == LISTENER_CONNECTIONS:
        return put_number(w, r.listener_connections)
    elif code == POOL_CONNECTIONS:
        return put_number(w, r.pool_connections)
    elif code == MEMBER_CONNECTIONS:
        return put_number(w, r.member_connections)
    elif code == RETRIES:
        return (not r.redispatched or put_byte(w, c'+')) and put_number(w, r.retries)
    elif code == MEMBER_QUEUE:
        return put_number(w, r.member_queue)
    elif code == POOL_QUEUE:
        return put_number(w, r.pool_queue)
    elif code == LINE_NUMBER:
        return put_counter(w, r.line_number, flags)
    elif code == REQUEST_NUMBER:
        return put_counter(w, r.request_number, flags)
    elif code == UNIQUE_ID:
        return put_text(w, r.unique_id.data, r.unique_id.length, flags)
    elif code == TLS:
        return put_sample_number(w, 1 if r.tls else 0, flags)
    elif code == TLS_VERIFY:
        return put_sample_number(w, r.tls_verify, flags) if r.tls else put_absent(w, flags)
    elif code == TLS_USED or code == TLS_NAMED or code == TLS_RESUMED:
        if not r.tls:
            return put_absent(w, flags)
        return put_sample_number(
            w, r.tls_used if code == TLS_USED else r.tls_named if code == TLS_NAMED else r.tls_resumed, flags
        )
    elif TLS_TEXT <= code < TLS_TEXT + LOG_TLS_TEXTS:
        return put_text(w, r.tls_texts[code - TLS_TEXT].data, r.tls_texts[code - TLS_TEXT].length if r.tls else 0, flags)
    return put_absent(w, flags)


cdef int64_t format_line(const LogFormat *format, const LogRecord *record, LogClock *clock, int64_t now_s,
                         char *out, uint32_t room) noexcept nogil:
    cdef Writer writer
    cdef const LogOp *op = format.ops
    if room == 0:
        return 0
    writer.at = out
    writer.end = out + room - 1
    if put_header(&writer, format, clock, now_s):
        while put_raw(&writer, format.bytes + op.literal, op.literal_length) and op.code != END:
            if not put_variable(&writer, op, record, clock):
                break
            op += 1
    writer.at[0] = c'\n'
    return writer.at + 1 - out


cdef int64_t format_notice(const LogFormat *format, const LogRecord *record, uint32_t bind, const char *text,
                           LogClock *clock, int64_t now_s, char *out, uint32_t room) noexcept nogil:
    cdef Writer writer
    cdef LogAddress address = record.client
    if room == 0:
        return 0
    writer.at = out
    writer.end = out + room - 1
    if (put_header(&writer, format, clock, now_s) and put_address(&writer, &address, 0) and put_byte(&writer, c':')
            and put_port(&writer, &address, 0) and put_raw(&writer, b" [", 2)
            and put_date(&writer, clock, record.accept_wall_us, False) and put_raw(&writer, b"] ", 2)
            and put_listener(&writer, record, False, 0) and put_byte(&writer, c'/') and put_number(&writer, bind)
            and put_raw(&writer, b": ", 2)):
        put_raw(&writer, text, strlen(text))
    writer.at[0] = c'\n'
    return writer.at + 1 - out


# --- compiling -----------------------------------------------------------------------------------------------------

cdef bytes _printable(bytes text):
    """Literals may not smuggle control characters either."""
    return b"".join(b"#%02X" % byte if byte < 32 or byte == 127 else bytes([byte]) for byte in text)


cdef bytes _constant(int code, int flags, long pid, bytes host):
    """Text of a variable that never changes, or None."""
    if code == PROCESS_ID:
        return b"%04X" % pid if flags & LOG_HEX else b"%d" % pid
    if code == HOST_NAME:
        if flags & LOG_ESCAPE:
            host = b"".join(b"\\%c" % byte if byte in b'"\\]' else bytes([byte]) for byte in host)
        return b'"%b"' % host if flags & LOG_QUOTE else host or b"-"
    return None


cdef LogFormat *compile_format(object segments, int facility, bytes tag, long pid, bytes host, uint32_t room) except NULL:
    cdef LogFormat *format
    cdef list ops = []              # (code, flags, offset, length)
    cdef bytearray blob = bytearray()
    cdef bytes literal = b""
    cdef Py_ssize_t i
    if not 0 <= facility <= 23:
        raise ValueError(f"syslog facility out of range: {facility}")
    for before, name, flags in segments:
        code = END if name is None else _CODES.get(name, ABSENT)
        literal += _printable(before)
        constant = _constant(code, flags, pid, host)
        if constant is not None:
            literal += _printable(constant)
        elif code != END:
            ops.append((code, flags, len(blob), len(literal)))
            blob += literal
            literal = b""
    ops.append((END, 0, len(blob), len(literal)))
    blob += literal
    priority = b"<%d>" % (facility * 8 + 6)
    mark = _printable(b" %b[%d]: " % (tag, pid))

    format = <LogFormat *> calloc(1, sizeof(LogFormat))
    if format == NULL:
        raise MemoryError
    format.ops = <LogOp *> calloc(len(ops), sizeof(LogOp))
    format.priority = <uint32_t> len(blob)
    format.priority_length = <uint32_t> len(priority)
    blob += priority
    format.room = room
    format.tag = <uint32_t> len(blob)
    format.tag_length = <uint32_t> len(mark)
    blob += mark
    format.bytes = <char *> malloc(len(blob))
    if format.ops == NULL or format.bytes == NULL:
        release_format(format)
        raise MemoryError
    memcpy(format.bytes, <const char *> blob, len(blob))
    for i in range(len(ops)):
        format.ops[i].code, format.ops[i].flags, format.ops[i].literal, format.ops[i].literal_length = ops[i]
        if format.ops[i].code >= TLS_TEXT:
            format.tls_texts |= 1 << (format.ops[i].code - TLS_TEXT)
    return format


cdef void release_format(LogFormat *format) noexcept nogil:
    if format != NULL:
        free(format.ops)
        free(format.bytes)
        free(format)


# --- Python face ---------------------------------------------------------------------------------------------------

cdef void _borrow(LogText *text, bytes value):
    if value is not None:
        text.data = value
        text.length = <uint32_t> len(value)


cdef void _borrow_address(LogAddress *address, bytes value, int port):
    address.address = <const uint8_t *> <const char *> value
    address.length = <uint8_t> len(value)
    address.port = <uint16_t> port


cdef tuple _TEXTS = (
    "listener", "pool", "member", "request_line", "unique_id", "tls_dn", "tls_common_name", "tls_issuer", "tls_sha1",
    "tls_not_before", "tls_not_after", "tls_version", "tls_cipher", "tls_sni", "tls_alpn",
)
cdef tuple _ADDRESSES = ("client", "bind", "source", "target")
cdef dict _NUMBERS = {
    "accept_wall_us": 0, "total_ms": 0, "handshake_ms": 0, "idle_ms": 0, "request_ms": 0, "queue_ms": -1,
    "connect_ms": -1, "response_ms": -1, "status": -1, "bytes_out": 0, "bytes_in": 0, "tls": 0, "tls_verify": 0,
    "tls_used": 0, "tls_named": 0, "tls_resumed": 0,
    "process_connections": 0, "listener_connections": 0, "pool_connections": 0, "member_connections": 0, "retries": 0,
    "redispatched": 0, "member_queue": 0, "pool_queue": 0, "line_number": 0, "request_number": 0,
}


cdef class LogProgram:
    """A compiled format. The engine reads `format` and keeps a reference to this object for as long as it uses it.

    Args:
        segments: (literal, variable or None, flags) as `amphorad.proxy.log_format.parse` gives them.
        facility: syslog facility, 0-23.
        tag, pid: of the datagram's header; `pid` is %pid too.
        host: %H.
        room: bytes of the longest line that the engine writes.

    Raises:
        ValueError: facility out of range.
    """

    def __cinit__(self, segments, *, int facility, bytes tag, long pid, bytes host, uint32_t room=DATAGRAM_LIMIT):
        memset(&self.clock, 0, sizeof(LogClock))
        self.format = compile_format(segments, facility, tag, pid, host, room)

    def __dealloc__(self):
        release_format(self.format)

    def line(self, *, int64_t now_s=0, uint32_t room=DATAGRAM_LIMIT, bytes termination=b"----", **values):
        """The datagram for a record given by the names of its fields; an address is (packed bytes, port)."""
        cdef LogRecord record
        fill_record(&record, values, termination)
        cdef bytearray out = bytearray(room + 16)       # the tail shows whether anything was written beyond `room`
        cdef int64_t length = format_line(self.format, &record, &self.clock, now_s, <char *> out, room)
        assert length <= room and not any(out[length:]), "written beyond the line"
        return bytes(out[:length])

    def repeat(self, uint64_t times, *, int64_t now_s=0, bytes termination=b"----", **values):
        """Formats one record `times` times with the interpreter lock released, for benchmarks; returns its length."""
        cdef LogRecord record
        cdef char out[DATAGRAM_LIMIT]
        cdef uint64_t i
        cdef int64_t length = 0
        fill_record(&record, values, termination)
        with nogil:
            for i in range(times):
                record.accept_wall_us += 1000
                length = format_line(self.format, &record, &self.clock, record.accept_wall_us // 1000000, out,
                                     DATAGRAM_LIMIT)
        return length


cdef int fill_record(LogRecord *record, dict values, bytes termination) except -1:
    """Borrows from `values`, which the caller keeps."""
    unknown = values.keys() - set(_TEXTS) - set(_ADDRESSES) - _NUMBERS.keys()
    if unknown:
        raise TypeError(f"unknown fields: {sorted(unknown)}")
    if len(termination) != 4:
        raise ValueError("termination has four letters")
    memset(record, 0, sizeof(LogRecord))
    memcpy(record.termination, <const char *> termination, 4)
    cdef LogText *texts[5]
    texts[:] = [&record.listener, &record.pool, &record.member, &record.request_line, &record.unique_id]
    cdef LogAddress *addresses[4]
    addresses[:] = [&record.client, &record.bind, &record.source, &record.target]
    cdef int i
    for i in range(5 + LOG_TLS_TEXTS):
        _borrow(texts[i] if i < 5 else &record.tls_texts[i - 5], values.get(_TEXTS[i]))
    for i in range(4):
        if values.get(_ADDRESSES[i]) is not None:
            address, port = values[_ADDRESSES[i]]
            if len(address) not in (4, 16):
                raise ValueError("an address has 4 or 16 bytes")
            _borrow_address(addresses[i], address, port)
    numbers = _NUMBERS | values
    record.accept_wall_us = numbers["accept_wall_us"]
    record.total_ms = numbers["total_ms"]
    record.handshake_ms = numbers["handshake_ms"]
    record.idle_ms = numbers["idle_ms"]
    record.request_ms = numbers["request_ms"]
    record.queue_ms = numbers["queue_ms"]
    record.connect_ms = numbers["connect_ms"]
    record.response_ms = numbers["response_ms"]
    record.status = numbers["status"]
    record.bytes_out = numbers["bytes_out"]
    record.bytes_in = numbers["bytes_in"]
    record.tls = numbers["tls"]
    record.tls_verify = numbers["tls_verify"]
    record.tls_used = numbers["tls_used"]
    record.tls_named = numbers["tls_named"]
    record.tls_resumed = numbers["tls_resumed"]
    record.process_connections = numbers["process_connections"]
    record.listener_connections = numbers["listener_connections"]
    record.pool_connections = numbers["pool_connections"]
    record.member_connections = numbers["member_connections"]
    record.retries = numbers["retries"]
    record.redispatched = numbers["redispatched"]
    record.member_queue = numbers["member_queue"]
    record.pool_queue = numbers["pool_queue"]
    record.line_number = numbers["line_number"]
    record.request_number = numbers["request_number"]
    return 0
