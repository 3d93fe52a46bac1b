# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The traffic log of the engine: one datagram for each exchange (HTTP) or session (TCP), in batches.

Lines are formatted into a buffer of the thread and leave with one sendmmsg at the end of a loop pass. The socket never
blocks traffic: what it does not take is dropped and counted (`Shared.log_drops`).
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcpy, memset

from amphorad.proxy.engine.memory cimport block_data, block_give, block_take
from amphorad.proxy.engine.runtime cimport Block, LogEntry, PoolView, load_config, load_view
from amphorad.proxy.engine.session cimport session_socket
from amphorad.proxy.engine.system cimport (
    MSG_DONTWAIT, MSG_NOSIGNAL, AF_INET, add_i64, load_i64, mmsghdr, ntohs, peek_i32, sendmmsg, sockaddr_in, sockaddr_in6,
    wall_us,
)
from amphorad.proxy.tls.facts cimport LOG_FACT_BYTES, tls_log
from amphorad.proxy.tls.transport cimport tls_failure
from amphorad.proxy.wire.log_line cimport DATAGRAM_LIMIT, LogClock, LogRecord, format_line, format_notice

cdef enum:
    LOG_BYTES = 131072
    LOG_LINES = 64
    LINE_KEPT = 2000


cdef void log_begin(Session *session, const ListenerConfig *config, const uint8_t *line, uint32_t length) noexcept nogil:
    """Notes when it began and, for HTTP, the request line (`line` NULL: unparsable, or a TCP session)."""
    cdef Block *block
    cdef LogEntry *entry
    if config.log_format == NULL or peek_i32(&session.client.thread.shared.log_socket) < 0:
        return
    if length > LINE_KEPT:
        length = LINE_KEPT
    if session.log != NULL:
        block_give(session.client.thread, session.log.block)
        session.log = NULL
    block = block_take(session.client.thread, sizeof(LogEntry) + length)
    if block == NULL:
        add_i64(<int64_t *>&session.client.thread.shared.log_drops, 1)
        return
    entry = <LogEntry *>block_data(block)
    memset(entry, 0, sizeof(LogEntry))
    entry.block = block
    entry.wall_us = wall_us()
    entry.line_length = length if line != NULL else 0
    if line != NULL:
        memcpy(<uint8_t *>entry + sizeof(LogEntry), line, length)
    session.log = entry


cdef void log_end(Session *session) noexcept nogil:
    """Writes the line, while the session still knows its pool and member."""
    cdef LogEntry *entry = session.log
    cdef Thread *thread = session.client.thread
    cdef const ListenerConfig *config
    cdef PoolView *view
    cdef LogRecord record
    cdef uint8_t[LOG_FACT_BYTES] facts
    cdef char *out
    if entry == NULL:
        return
    config = load_config(&session.listener.config)
    if config != NULL and config.log_format != NULL:
        memset(&record, 0, sizeof(LogRecord))
        record.listener.data = config.name
        record.listener.length = config.name_length
        if session.pool != NULL:
            view = load_view(&session.pool.view)
            if view != NULL:
                record.pool.data = view.name
                record.pool.length = view.name_length
        if session.member != NULL:
            record.member.data = session.member.name
            record.member.length = session.member.name_length
            target_address(session, &record)
        record.client.address = session.address
        record.client.length = session.address_length
        record.client.port = session.client_port
        record.bind.port = session.port
        record.accept_wall_us = entry.wall_us
        record.total_ms = <int64_t>((thread.now_us - session.start_us) // 1000)
        record.handshake_ms = 0
        record.idle_ms = 0
        record.request_ms = 0
        record.queue_ms = 0
        record.connect_ms = <int32_t>((entry.connected_us - session.start_us) // 1000) if entry.connected_us else -1
        record.response_ms = -1 if record.connect_ms < 0 else 0 if not config.is_http else record.connect_ms
        if entry.line_length:
            record.request_line.data = <const char *>entry + sizeof(LogEntry)
            record.request_line.length = entry.line_length
        record.status = <short>session.status if session.status else -1
        record.bytes_in = entry.bytes_in
        record.bytes_out = entry.bytes_out
        record.termination[0] = session.cause
        record.termination[1] = session.stage
        record.termination[2] = session.cookie_in if session.cookie_in else c'-'
        record.termination[3] = session.cookie_out if session.cookie_out else c'-'
        record.process_connections = <uint32_t>load_i64(&thread.shared.sessions)
        record.listener_connections = <uint32_t>load_i64(&session.listener.slot.load.in_flight)
        tls_log(session_socket(session), config.log_format.tls_texts, &record, facts)
        out = line_begin(thread, config.log_format.room)
        line_end(thread, out, format_line(
            config.log_format, &record, <LogClock *>thread.log_clock, thread.wall_s, out, config.log_format.room
        ))
    block_give(thread, entry.block)
    session.log = NULL


cdef void log_handshake(Session *session) noexcept nogil:
    cdef Thread *thread = session.client.thread
    cdef const ListenerConfig *config = load_config(&session.listener.config)
    cdef const char *text = tls_failure(&session.client)
    cdef LogRecord record
    cdef char *out
    if text == NULL or config == NULL or config.log_format == NULL or peek_i32(&thread.shared.log_socket) < 0:
        return
    memset(&record, 0, sizeof(LogRecord))
    record.listener.data = config.name
    record.listener.length = config.name_length
    record.client.address = session.address
    record.client.length = session.address_length
    record.client.port = session.client_port
    record.accept_wall_us = wall_us() - <int64_t>(thread.now_us - session.start_us)
    out = line_begin(thread, DATAGRAM_LIMIT)
    line_end(thread, out, format_notice(
        config.log_format, &record, <uint32_t>session.bind + 1, text, <LogClock *>thread.log_clock, thread.wall_s, out,
        DATAGRAM_LIMIT,
    ))


cdef inline char *line_begin(Thread *thread, uint32_t room) noexcept nogil:
    """Where the next line goes."""
    if thread.log_lines == LOG_LINES or thread.log_used + room > LOG_BYTES:
        log_flush(thread)
    return <char *>thread.log_buffer + thread.log_used


cdef inline void line_end(Thread *thread, char *line, int64_t length) noexcept nogil:
    if length > 0:
        thread.log_vectors[thread.log_lines].iov_base = line
        thread.log_vectors[thread.log_lines].iov_len = <size_t>length
        thread.log_lines += 1
        thread.log_used += <uint32_t>length


cdef void target_address(Session *session, LogRecord *record) noexcept nogil:
    if session.member.address.ss_family == AF_INET:
        record.target.address = <const uint8_t *>&(<sockaddr_in *>&session.member.address).sin_addr
        record.target.length = 4
    else:
        record.target.address = <const uint8_t *>&(<sockaddr_in6 *>&session.member.address).sin6_addr
        record.target.length = 16
    record.target.port = ntohs((<sockaddr_in *>&session.member.address).sin_port)


cdef void log_flush(Thread *thread) noexcept nogil:
    """Sends what was formatted since the last flush; lines that the socket does not take are dropped and counted."""
    cdef mmsghdr[64] messages
    cdef uint32_t index
    cdef int sent
    cdef int32_t log_socket = peek_i32(&thread.shared.log_socket)
    if thread.log_lines == 0:
        return
    memset(messages, 0, sizeof(mmsghdr) * thread.log_lines)
    for index in range(thread.log_lines):
        messages[index].msg_hdr.msg_iov = &thread.log_vectors[index]
        messages[index].msg_hdr.msg_iovlen = 1
    sent = sendmmsg(log_socket, messages, thread.log_lines, MSG_DONTWAIT | MSG_NOSIGNAL)
    if sent < 0:
        sent = 0
    if <uint32_t>sent < thread.log_lines:
        add_i64(<int64_t *>&thread.shared.log_drops, <int64_t>(thread.log_lines - <uint32_t>sent))
    thread.log_lines = 0
    thread.log_used = 0
