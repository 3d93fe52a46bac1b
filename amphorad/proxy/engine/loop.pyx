# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The loop of an engine thread: events, run queue, timers, accepting.

All threads accept from the same listening sockets (EPOLLEXCLUSIVE wakes one of them); a thread that has more sessions
than the least busy one hands new connections over, so that long-lived connections spread evenly. A listener at its
connection limit stops accepting: the rest waits in the kernel's queue until a session ends (HAProxy does the same).
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from amphorad.proxy.engine.exchange cimport exchange_accept
from amphorad.proxy.engine.member_conn cimport member_conns_close_idle
from amphorad.proxy.engine.memory cimport blocks_release, pipes_release, timers_advance, timers_wait_ms
from amphorad.proxy.engine.outcome cimport HTTP_CLIENT, evict
from amphorad.proxy.engine.relay cimport TCP_CLIENT, relay_accept
from amphorad.proxy.engine.runtime cimport (
    COMPOSE_BYTES, DEAD, FAILED, HEADROOM, INBOX_PLACES, MAX_BINDS, MULTIPLEXED, PEER_CLOSED, QUEUED, READABLE, REQUEST_HEAD,
    SCRATCH_BYTES, WRITABLE, Conn, ConnKind, Handover, ListenerBind, ListenerConfig, Member, MemberConn, Session,
    load_config, load_listeners, load_members,
)
from amphorad.proxy.engine.session cimport session_close, session_open
from amphorad.proxy.engine.system cimport (
    AF_INET, EAGAIN, EBADF, EFD_CLOEXEC, EFD_NONBLOCK, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPOLL_CLOEXEC,
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLERR, EPOLLET, EPOLLEXCLUSIVE, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, SOCK_CLOEXEC,
    SOCK_NONBLOCK, accept4, add_i64, bump_i32, bump_u32, close, epoll_create1, epoll_ctl, epoll_event, epoll_wait, errno,
    eventfd, exchange_u32, iovec, load_i32, load_i64, load_u32, now_us, ntohs, peek_i32, peek_i64, peek_u32, peek_u64, put_u32, raise_i64,
    read, sockaddr, sockaddr_in, sockaddr_in6, sockaddr_storage,
    socklen_t, store_u32, store_u64, wall_us, write,
)
from amphorad.proxy.engine.traffic_log cimport log_flush
from amphorad.proxy.http2.connection cimport http2_close, http2_drain
from amphorad.proxy.tls.transport cimport tls_accept
from amphorad.proxy.wire.log_line cimport LogClock
from amphorad.proxy.wire.regex cimport regex_scratch_release

cdef enum:
    EVENTS = 256
    ACCEPTS = 64                # of one listener in a row
    ACCEPT_PAUSE_MS = 100       # after descriptors or memory ran out
    HANDOVER_SLACK = 2
    LOG_BYTES = 131072
    LOG_LINES = 64
    SLEEP_LIMIT_MS = 60000


cdef int thread_open(Thread *thread, Shared *shared, unsigned int index) noexcept nogil:
    """Gets what a thread needs. -1 with errno when the system refuses."""
    cdef epoll_event event
    memset(thread, 0, sizeof(Thread))
    thread.shared = shared
    thread.index = index
    thread.epoch_us = now_us()
    thread.now_us = thread.epoch_us
    thread.timer_tick = 1
    thread.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
    thread.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    thread.scratch = <uint8_t *>malloc(HEADROOM + SCRATCH_BYTES)
    thread.compose = <uint8_t *>malloc(COMPOSE_BYTES)
    thread.log_buffer = <uint8_t *>malloc(LOG_BYTES)
    thread.log_vectors = <iovec *>malloc(LOG_LINES * sizeof(iovec))
    thread.log_clock = calloc(1, sizeof(LogClock))
    thread.inbox = <Handover *>malloc(INBOX_PLACES * sizeof(Handover))
    if (thread.epoll_fd < 0 or thread.event_fd < 0 or thread.scratch == NULL or thread.compose == NULL
            or thread.log_buffer == NULL or thread.log_vectors == NULL or thread.log_clock == NULL or thread.inbox == NULL):
        return -1
    event.events = EPOLLIN | <unsigned int>EPOLLET
    event.data.ptr = NULL
    return epoll_ctl(thread.epoll_fd, EPOLL_CTL_ADD, thread.event_fd, &event)


cdef void thread_close(Thread *thread) noexcept nogil:
    """Ends every session and gives everything back. The loop has returned; idle member connections are gone already."""
    cdef Session *session
    cdef MemberConn *member_conn
    while thread.sessions != NULL:
        if thread.sessions.phase == MULTIPLEXED:
            http2_close(thread.sessions)
        else:
            session_close(thread.sessions)
    run_queue(thread)
    bury(thread)
    while thread.free_sessions != NULL:
        session = thread.free_sessions
        thread.free_sessions = session.next
        free(session)
    while thread.free_member_conns != NULL:
        member_conn = thread.free_member_conns
        thread.free_member_conns = member_conn.idle_next
        free(member_conn)
    log_flush(thread)
    blocks_release(thread)
    pipes_release(thread)
    while thread.inbox_count:
        thread.inbox_count -= 1
        close(thread.inbox[thread.inbox_count].fd)
    free(thread.scratch)
    free(thread.compose)
    free(thread.log_buffer)
    free(thread.log_vectors)
    free(thread.log_clock)
    free(thread.inbox)
    regex_scratch_release(thread.regex_scratch)
    if thread.epoll_fd >= 0:
        close(thread.epoll_fd)
    if thread.event_fd >= 0:
        close(thread.event_fd)


cdef void thread_wake(Thread *thread) noexcept nogil:
    cdef uint64_t one = 1
    write(thread.event_fd, &one, 8)


cdef int thread_watch(Thread *thread, Listener *listener, unsigned int bind) noexcept nogil:
    """Lets the thread accept from that bind. Called by the main thread."""
    cdef epoll_event event
    event.events = EPOLLIN | <unsigned int>EPOLLET | <unsigned int>EPOLLEXCLUSIVE
    event.data.u64 = <uint64_t>&listener.binds[bind] | 1
    return epoll_ctl(thread.epoll_fd, EPOLL_CTL_ADD, listener.binds[bind].fd, &event)


cdef void thread_unwatch(Thread *thread, int fd) noexcept nogil:
    cdef epoll_event event
    memset(&event, 0, sizeof(epoll_event))
    epoll_ctl(thread.epoll_fd, EPOLL_CTL_DEL, fd, &event)


cdef void thread_run(Thread *thread) noexcept nogil:
    """Runs until `stop` is set."""
    cdef epoll_event[256] events
    cdef int count
    cdef int index
    while not load_u32(&thread.stop):
        store_u64(&thread.passes, thread.passes + 1)
        count = epoll_wait(thread.epoll_fd, events, EVENTS, wait_ms(thread))
        store_u64(&thread.passes, thread.passes + 1)
        thread.now_us = now_us()
        thread.now_ms = (thread.now_us - thread.epoch_us) // 1000
        if peek_i32(&thread.shared.log_socket) >= 0:
            thread.wall_s = wall_us() // 1000000
        for index in range(count):
            dispatch(thread, &events[index])
        run_queue(thread)
        timers_advance(thread)
        take_inbox(thread)
        if thread.accept_wanted or (thread.accept_retry_ms and thread.now_ms >= thread.accept_retry_ms):
            accept_waiting(thread)
        if load_u32(&thread.sweep):
            sweep(thread)
        log_flush(thread)
        bury(thread)


cdef int wait_ms(Thread *thread) noexcept nogil:
    cdef int64_t wait
    if thread.queue_head != NULL or thread.accept_wanted:
        return 0
    wait = timers_wait_ms(thread)
    if wait < 0 or wait > SLEEP_LIMIT_MS:
        wait = SLEEP_LIMIT_MS
    if thread.accept_retry_ms and wait > ACCEPT_PAUSE_MS:
        wait = ACCEPT_PAUSE_MS
    return <int>wait


cdef void dispatch(Thread *thread, epoll_event *event) noexcept nogil:
    cdef Conn *conn
    cdef uint32_t events = event.events
    cdef unsigned int flags = 0
    cdef uint64_t drained
    if event.data.ptr == NULL:
        read(thread.event_fd, &drained, 8)
        return
    if event.data.u64 & 1:
        accept_from(thread, <ListenerBind *>(event.data.u64 & ~<uint64_t>1))
        return
    conn = <Conn *>event.data.ptr
    if conn.flags & DEAD:
        return
    if events & EPOLLIN:
        flags |= READABLE
    if events & EPOLLOUT:
        flags |= WRITABLE
    if events & (EPOLLRDHUP | EPOLLHUP):
        flags |= PEER_CLOSED | READABLE
    if events & EPOLLERR:
        flags |= FAILED | READABLE | WRITABLE
    if conn.transport != NULL:
        flags |= READABLE | WRITABLE
    conn.flags |= flags
    conn.kind.on_ready(conn)


cdef void run_queue(Thread *thread) noexcept nogil:
    """Gives every Conn that was queued before this pass its turn."""
    cdef Conn *conn = thread.queue_head
    cdef Conn *following
    thread.queue_head = NULL
    thread.queue_tail = NULL
    while conn != NULL:
        following = conn.queue_next
        conn.flags &= ~<unsigned int>QUEUED
        if conn.flags & DEAD:
            conn.queue_next = thread.graveyard
            thread.graveyard = conn
        else:
            conn.kind.on_ready(conn)
        conn = following


cdef void bury(Thread *thread) noexcept nogil:
    cdef Conn *conn = thread.graveyard
    cdef Conn *following
    thread.graveyard = NULL
    while conn != NULL:
        following = conn.queue_next
        conn.kind.free(conn)
        conn = following


cdef int speaks_otherwise(Session *session) noexcept nogil:
    """Whether the listener of an HTTP session has become one for TCP."""
    cdef ListenerConfig *config = load_config(&session.listener.config)
    return config != NULL and not config.is_http


cdef void sweep(Thread *thread) noexcept nogil:
    """Closes what should not be kept: idle clients of a removed listener (at the end: all), sessions whose time to drain is
    over, idle connections to removed members."""
    cdef Session *session = thread.sessions
    cdef Session *following
    cdef Member **dropped
    store_u32(&thread.sweep, 0)
    dropped = load_members(&thread.shared.dropped)  # after that store, or a newer request would be lost
    thread.accept_wanted = 1  # limits may have grown
    while session != NULL:
        following = session.next
        if session.phase == MULTIPLEXED:
            if peek_u32(&thread.shared.stopping) or peek_u32(&session.listener.removed) or speaks_otherwise(session):
                http2_drain(session)
        elif (session.phase == REQUEST_HEAD and session.carrier == NULL and session.pending == NULL and session.client.out == NULL
                and (peek_u32(&thread.shared.stopping) or peek_u32(&session.listener.removed) or speaks_otherwise(session))):
            session_close(session)
        elif (session.start_us < peek_u64(&session.listener.evict_before_us)
                or session.member != NULL and session.start_us < peek_u64(&session.member.evict_before_us)):
            evict(session)
        session = following
    while dropped != NULL and dropped[0] != NULL:
        member_conns_close_idle(thread, dropped[0])
        dropped += 1


# --- accepting ---


cdef int admit(Thread *thread, Listener *listener, const ListenerConfig *config) noexcept nogil:
    """Counts a connection in; 0 when the listener, or all of them together, are at the limit."""
    cdef int64_t now
    while True:
        now = add_i64(&listener.slot.load.in_flight, 1)
        if now <= config.limit:
            if add_i64(&thread.shared.sessions, 1) <= peek_i64(&thread.shared.session_limit):
                raise_i64(&listener.slot.max_current, now)
                return 1
            add_i64(&thread.shared.sessions, -1)
            store_u32(&thread.shared.paused, 1)
        add_i64(&listener.slot.load.in_flight, -1)
        store_u32(&listener.paused, 1)
        # a session may have ended before it could see that we are paused
        if (load_i64(&listener.slot.load.in_flight) >= config.limit
                or load_i64(&thread.shared.sessions) >= peek_i64(&thread.shared.session_limit)):
            return 0


cdef void withdraw(Thread *thread, Listener *listener) noexcept nogil:
    add_i64(&listener.slot.load.in_flight, -1)
    add_i64(&thread.shared.sessions, -1)
    if load_u32(&listener.paused) or load_u32(&thread.shared.paused):
        thread.accept_wanted = 1  # another thread may have been refused the place that was held here


cdef void accept_from(Thread *thread, ListenerBind *bind) noexcept nogil:
    cdef Listener *listener = bind.listener
    cdef const ListenerConfig *config = load_config(&listener.config)
    cdef Handover arrival
    cdef sockaddr_storage address
    cdef socklen_t length
    cdef int turn
    cdef int error
    cdef int32_t listening = load_i32(&bind.fd)
    if listening < 0 or config == NULL or peek_u32(&listener.removed):
        return
    for turn in range(ACCEPTS):
        if not admit(thread, listener, config):
            return
        length = sizeof(sockaddr_storage)
        arrival.fd = accept4(listening, <sockaddr *>&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if arrival.fd < 0:
            error = errno
            withdraw(thread, listener)
            if error == EMFILE or error == ENFILE or error == ENOBUFS or error == ENOMEM:
                add_i64(<int64_t *>&thread.shared.accept_failures, 1)
                store_u32(&listener.paused, 1)
                thread.accept_retry_ms = thread.now_ms + ACCEPT_PAUSE_MS
                return
            if error == EAGAIN or error == EINVAL or error == EBADF:  # empty, or no longer listening
                return
            continue  # this connection failed (accept(2), "Error handling"): the next one
        arrival.target = listener
        arrival.bind = <uint16_t>(bind - &listener.binds[0])
        if address.ss_family == AF_INET:
            arrival.address_length = 4
            memcpy(arrival.address, &(<sockaddr_in *>&address).sin_addr, 4)
            arrival.client_port = ntohs((<sockaddr_in *>&address).sin_port)
        else:
            arrival.address_length = 16
            memcpy(arrival.address, &(<sockaddr_in6 *>&address).sin6_addr, 16)
            arrival.client_port = ntohs((<sockaddr_in6 *>&address).sin6_port)
        if thread.shared.thread_count == 1 or not hand_over(thread, &arrival):
            begin(thread, &arrival)
    store_u32(&listener.paused, 1)
    thread.accept_wanted = 1


cdef void begin(Thread *thread, const Handover *arrival) noexcept nogil:
    cdef Listener *listener = arrival.target
    cdef const ListenerConfig *config = load_config(&listener.config)
    cdef const ConnKind *kind = &HTTP_CLIENT if config.is_http else &TCP_CLIENT
    cdef Session *session = session_open(thread, listener, arrival.fd, kind)
    if session == NULL:
        close(arrival.fd)
        withdraw(thread, listener)
        return
    memcpy(session.address, arrival.address, 16)
    session.address_length = arrival.address_length
    session.client_port = arrival.client_port
    session.bind = arrival.bind
    session.port = listener.binds[arrival.bind].port
    if config.tls != NULL:
        session.start_us = thread.now_us  # of the handshake, should it fail
        if tls_accept(&session.client, config.tls) != 0:
            session_close(session)
            return
    if config.is_http:
        exchange_accept(session)
    else:
        relay_accept(session)


cdef void accept_waiting(Thread *thread) noexcept nogil:
    """Accepts on every listener that was paused."""
    cdef Listener **listeners = load_listeners(&thread.shared.listeners)
    cdef Listener *listener
    cdef uint32_t bind
    thread.accept_wanted = 0
    thread.accept_retry_ms = 0
    store_u32(&thread.shared.paused, 0)
    while listeners != NULL and listeners[0] != NULL:
        listener = listeners[0]
        listeners += 1
        if exchange_u32(&listener.paused, 0):
            for bind in range(MAX_BINDS):
                if load_i32(&listener.binds[bind].fd) >= 0:
                    accept_from(thread, &listener.binds[bind])


# --- handing over between threads ---


cdef void lock_inbox(Thread *thread) noexcept nogil:
    while exchange_u32(&thread.inbox_lock, 1):
        pass


cdef int hand_over(Thread *thread, const Handover *arrival) noexcept nogil:
    """Gives a new connection to the thread with the fewest sessions, if that is clearly not this one."""
    cdef Thread *other
    cdef Thread *least = thread
    cdef int64_t fewest = thread.session_count
    cdef int64_t sessions
    cdef uint32_t index
    cdef int done = 0
    for index in range(thread.shared.thread_count):
        other = &thread.shared.threads[index]
        sessions = peek_i64(&other.session_count) + peek_u32(&other.inbox_count)
        if sessions < fewest:
            fewest = sessions
            least = other
    if thread.session_count - fewest < HANDOVER_SLACK:
        return 0
    lock_inbox(least)
    if least.inbox_count < INBOX_PLACES:
        bump_i32(&arrival.target.per_thread[thread.index].references, 1)  # given back by the thread that takes it
        least.inbox[least.inbox_count] = arrival[0]
        bump_u32(&least.inbox_count, 1)
        done = 1
    store_u32(&least.inbox_lock, 0)
    if done:
        thread_wake(least)
    return done


cdef void take_inbox(Thread *thread) noexcept nogil:
    cdef Handover[64] taken
    cdef uint32_t count
    cdef uint32_t index
    while peek_u32(&thread.inbox_count):
        lock_inbox(thread)
        count = thread.inbox_count if thread.inbox_count < 64 else 64
        memcpy(taken, thread.inbox + (thread.inbox_count - count), count * sizeof(Handover))
        put_u32(&thread.inbox_count, thread.inbox_count - count)
        store_u32(&thread.inbox_lock, 0)
        for index in range(count):
            begin(thread, &taken[index])
            bump_i32(&taken[index].target.per_thread[thread.index].references, -1)
