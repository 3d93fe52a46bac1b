# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The engine seen from Python: threads, and the objects that the main thread builds and swaps in.

`MemberRuntime`, `PoolRuntime` and `ListenerRuntime` own the C structs that live as long as an identity; `View` and
`Config` own immutable configuration. The main thread builds them, publishes them with one store each, and hands what was
replaced to `Engine.retire`, which frees it once every engine thread has begun a later pass of its loop.

Only the main thread may call anything here. The engine never takes the interpreter lock, except for an algorithm that
is written in Python.
"""

import socket
import threading

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from amphorad.algorithms.picker cimport MemberLoad, build_picker, reset_shared
from amphorad.proxy.engine.board cimport BOARD_HEADER_BYTES, Row, Slot
from amphorad.proxy.engine.loop cimport thread_close, thread_open, thread_run, thread_unwatch, thread_wake, thread_watch
from amphorad.proxy.engine.member_conn cimport member_conns_close_idle
from amphorad.proxy.engine.persistence cimport COOKIE_LIMIT
from amphorad.proxy.engine.rate_limit cimport rate_of, source_table_free, source_table_new
from amphorad.proxy.engine.stick_table cimport NAME_LIMIT, Table, hash_key
from amphorad.proxy.engine.runtime cimport (
    APP_COOKIE_PERSISTENCE, HTTP_COOKIE_PERSISTENCE, NO_PLACE, SOURCE_PERSISTENCE, PersistentMember,
    HSTS_BYTES, INSERT_CLIENT_ADDRESS, INSERT_DESTINATION_PORT, INSERT_HOST, INSERT_TEXT, INSERT_TLS, INSERT_TRACEPARENT, MAX_BINDS, Insertion, Listener, ListenerConfig, Member, PerThread, Pool, PoolView,
    Shared, Thread,
)
from amphorad.proxy.engine.system cimport (
    AF_INET, AF_INET6, close, htons, load_i64, load_u64, now_us, peek_u32, put_i32, put_i64, put_u32, put_u64, sockaddr_in, sockaddr_in6,
    store_i32, store_u32, witness_i32,
)
from amphorad.proxy.tls.context cimport ServerContext
from amphorad.proxy.tls.member_context cimport MemberContext, Resumption, resumption_free
from amphorad.proxy.wire.log_line cimport LogProgram
from amphorad.proxy.wire.matcher cimport ACTION_POOL, PolicyProgram

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **memory, size_t alignment, size_t size)

cdef extern from *:
    """
    #define amphorad_store_pointer(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
    """
    void store_view "amphorad_store_pointer"(PoolView **place, PoolView *view)
    void store_config "amphorad_store_pointer"(ListenerConfig **place, ListenerConfig *config)
    void store_pool "amphorad_store_pointer"(Pool **place, Pool *pool)
    void store_listeners "amphorad_store_pointer"(Listener ***place, Listener **listeners)
    void store_members "amphorad_store_pointer"(Member ***place, Member **members)


_INSERTIONS = {
    "client_address": INSERT_CLIENT_ADDRESS, "host": INSERT_HOST, "traceparent": INSERT_TRACEPARENT,
}
SOURCE = SOURCE_PERSISTENCE
APP_COOKIE = APP_COOKIE_PERSISTENCE
HTTP_COOKIE = HTTP_COOKIE_PERSISTENCE
COOKIE_LIMIT_BYTES = COOKIE_LIMIT


cdef class Runtime:
    """What every kind of object has: a slot on the board and a line per thread."""

    cdef Engine engine
    cdef PerThread *per_thread
    cdef Slot *slot
    cdef uint32_t threads
    cdef readonly uint32_t slot_number

    def __cinit__(self, Engine engine, uint32_t slot_number, *arguments):
        cdef uint32_t index
        self.engine = engine
        self.slot_number = slot_number
        self.slot = engine.slot_at(slot_number)
        self.threads = engine.shared.thread_count
        if posix_memalign(<void **>&self.per_thread, 64, engine.shared.thread_count * sizeof(PerThread)) != 0:
            raise MemoryError
        memset(self.per_thread, 0, engine.shared.thread_count * sizeof(PerThread))
        for index in range(engine.shared.thread_count):
            self.per_thread[index].row = engine.row_at(index, slot_number)

    def __dealloc__(self):
        free(self.per_thread)

    @property
    def references(self) -> int:
        """Sessions and connections that still need this object."""
        cdef uint32_t index
        cdef int64_t total = 0
        for index in range(self.engine.shared.thread_count):
            total += witness_i32(&self.per_thread[index].references)
        return total


cdef class MemberRuntime(Runtime):
    cdef Member *member
    cdef bytes name

    def __init__(self, Engine engine, uint32_t slot_number, str member_id, str address, int port):
        cdef sockaddr_in *v4
        cdef sockaddr_in6 *v6
        cdef bytes packed
        self.member = <Member *>calloc(1, sizeof(Member))
        if self.member == NULL:
            raise MemoryError
        self.name = member_id.encode()
        self.member.name = self.name
        self.member.name_length = <uint32_t>len(self.name)
        self.member.per_thread = self.per_thread
        self.member.slot = self.slot
        if ":" in address:
            v6 = <sockaddr_in6 *>&self.member.address
            packed = socket.inet_pton(socket.AF_INET6, address)
            v6.sin6_family = AF_INET6
            v6.sin6_port = htons(port)
            memcpy(&v6.sin6_addr, <const char *>packed, 16)
            self.member.address_length = sizeof(sockaddr_in6)
        else:
            v4 = <sockaddr_in *>&self.member.address
            packed = socket.inet_pton(socket.AF_INET, address)
            v4.sin_family = AF_INET
            v4.sin_port = htons(port)
            memcpy(&v4.sin_addr, <const char *>packed, 4)
            self.member.address_length = sizeof(sockaddr_in)

    def __dealloc__(self):
        cdef uint32_t index
        if self.per_thread != NULL:
            for index in range(self.threads):
                resumption_free(<Resumption *>self.per_thread[index].tls_session)
        free(self.member)

    def show(self, uint32_t state, uint32_t weight, bint usable, bint sticks) -> None:
        """Puts state and weight on the board, and lets retries know whether the member is worth another try."""
        self.slot.state = state
        self.slot.weight = weight
        put_u32(&self.member.usable, usable)
        put_u32(&self.member.sticks, sticks)

    def remove(self) -> None:
        store_u32(&self.member.removed, 1)
        put_u32(&self.member.usable, 0)
        put_u32(&self.member.sticks, 0)

    def count_idle(self) -> None:
        """Puts the number of idle connections on the board."""
        cdef uint32_t index
        cdef int64_t total = 0
        for index in range(self.engine.shared.thread_count):
            total += peek_u32(&self.per_thread[index].idle_count)
        self.slot.idle = total

    def failures(self) -> tuple[int, int]:
        """Connections, and answers, that have failed in a row."""
        return load_i64(&self.member.connect_failures), load_i64(&self.member.answer_failures)

    def evict(self) -> None:
        """The next sweep ends the sessions and exchanges that began before now."""
        put_u64(&self.member.evict_before_us, now_us())

    def forgive(self) -> None:
        """The rows of failures begin again."""
        put_i64(&self.member.connect_failures, 0)
        put_i64(&self.member.answer_failures, 0)

    @property
    def in_flight(self) -> int:
        return load_i64(&self.slot.load.in_flight)


cdef class View:
    """An immutable `PoolView`, with what it points to."""

    cdef PoolView *view
    cdef list kept
    cdef readonly list members
    cdef readonly object table          # the stick table, if any

    def __init__(
        self, str name, list members not None, list usable not None, list weights not None, PoolRuntime pool not None, *,
        str algorithm, bint is_http, int reuse, int proxy_protocol, bint forwarded_for, list insertions, int retries, bint redispatch,
        uint32_t timeout_connect_ms, uint32_t timeout_member_ms, MemberContext tls=None, bint tls_sends_sni=False,
    ):
        cdef MemberRuntime member
        cdef uint32_t index
        cdef uint32_t count = <uint32_t>len(usable)
        cdef uint32_t *weight_values
        cdef MemberLoad **loads
        cdef PoolView *view = <PoolView *>calloc(1, sizeof(PoolView))
        if view == NULL:
            raise MemoryError
        self.view = view
        self.members = members
        self.kept = [name.encode()]
        view.name = <const char *><bytes>self.kept[0]
        view.name_length = <uint32_t>len(self.kept[0])
        view.member_count = <uint32_t>len(members)
        view.usable_count = count
        view.members = <Member **>calloc(view.member_count + 1, sizeof(Member *))
        view.usable = <uint32_t *>calloc(count + 1, sizeof(uint32_t))
        weight_values = <uint32_t *>calloc(count + 1, sizeof(uint32_t))
        loads = <MemberLoad **>calloc(count + 1, sizeof(MemberLoad *))
        try:
            if view.members == NULL or view.usable == NULL or weight_values == NULL or loads == NULL:
                raise MemoryError
            for index in range(view.member_count):
                member = members[index]
                view.members[index] = member.member
            for index in range(count):
                view.usable[index] = usable[index]
                member = members[view.usable[index]]
                weight_values[index] = weights[index]
                loads[index] = &member.slot.load
            names = [(<MemberRuntime>members[place]).name.decode() for place in usable]
            view.picker = build_picker(algorithm, count, weight_values, loads, &pool.slot.shared, names)
        finally:
            free(weight_values)
            free(loads)
        view.is_http = is_http
        view.reuse = reuse
        view.proxy_protocol = <uint8_t>proxy_protocol
        view.forwarded_for = forwarded_for
        view.retries = retries
        view.redispatch = redispatch
        view.timeout_connect_ms = timeout_connect_ms
        view.timeout_member_ms = timeout_member_ms
        if tls is not None:
            self.kept.append(tls)
            view.tls = tls.context
            view.tls_sends_sni = tls_sends_sni
        self.add_insertions(insertions)

    def add_persistence(self, int kind, bytes cookie_name, Table table, list cookies not None, list sticks not None,
                        bytes attributes=b"") -> None:
        """Before it is published: how clients stick to members.

        Args:
            kind: SOURCE, APP_COOKIE or HTTP_COOKIE of this module.
            cookie_name: of either cookie; empty for SOURCE.
            table: for SOURCE and APP_COOKIE.
            cookies: by member, the value of our own cookie, or empty.
            sticks: by member, whether it may be used for the clients that are its own.
            attributes: that our own cookie gets beside its path.
        """
        cdef PoolView *view = self.view
        cdef uint32_t index
        cdef uint32_t slot
        cdef bytes cookie
        if table is None and kind != HTTP_COOKIE_PERSISTENCE:
            raise ValueError("a stick table is missing")
        view.persistent = <PersistentMember *>calloc(view.member_count + 1, sizeof(PersistentMember))
        view.cookie_mask = 15
        while view.cookie_mask < 2 * view.member_count:
            view.cookie_mask = view.cookie_mask * 2 + 1
        view.cookie_slots = <uint32_t *>calloc(view.cookie_mask + 1, sizeof(uint32_t))
        view.member_of_place = <uint32_t *>calloc(NAME_LIMIT, sizeof(uint32_t))
        if view.persistent == NULL or view.cookie_slots == NULL or view.member_of_place == NULL:
            raise MemoryError
        self.kept += [cookie_name, cookies, attributes]
        view.cookie_attributes = attributes
        view.cookie_attributes_length = <uint32_t>len(attributes)
        self.table = table
        names = [view.members[index].name.decode() for index in range(view.member_count)]
        for index in range(view.member_count):
            cookie = cookies[index]
            if len(cookie) + len(cookie_name) > COOKIE_LIMIT:
                raise ValueError(f"a cookie's name and value have at most {COOKIE_LIMIT} bytes")
            view.persistent[index].cookie = cookie
            view.persistent[index].cookie_length = <uint32_t>len(cookie)
            view.persistent[index].sticks = bool(sticks[index])
            view.persistent[index].place = NO_PLACE
            if table is not None:
                place = table.name_place(names[index], names)
                if place >= 0:
                    view.persistent[index].place = place
                    view.member_of_place[place] = index + 1
            if cookie:
                slot = <uint32_t>hash_key(0, <const uint8_t *><const char *>cookie, <uint32_t>len(cookie)) & view.cookie_mask
                while view.cookie_slots[slot]:
                    slot = (slot + 1) & view.cookie_mask
                view.cookie_slots[slot] = index + 1
        view.place_count = NAME_LIMIT if table is not None else 0
        view.cookie_name = cookie_name
        view.cookie_name_length = <uint32_t>len(cookie_name)
        if table is not None:
            view.table = &table.table
        view.persistence = <uint8_t>kind

    cdef add_insertions(self, list insertions):
        cdef Insertion *insertion
        cdef bytes field
        cdef bytes line
        cdef PoolView *view = self.view
        view.insertions = <Insertion *>calloc(len(insertions) + 1, sizeof(Insertion))
        if view.insertions == NULL:
            raise MemoryError
        # value None: the client's port of destination; a number: a fact about its certificate; a text: a key of _INSERTIONS
        for field, value in insertions:
            line = field + b": " + (value + b"\r\n" if isinstance(value, bytes) else b"")
            self.kept += [field, line]
            insertion = &view.insertions[view.insertion_count]
            if isinstance(value, str):
                insertion.value = <uint8_t>_INSERTIONS[value]
            elif isinstance(value, int):
                insertion.value = <uint8_t>(INSERT_TLS + <int>value)
            else:
                insertion.value = INSERT_DESTINATION_PORT if value is None else INSERT_TEXT
            insertion.name = field
            insertion.name_length = <uint16_t>len(field)
            insertion.line = line
            insertion.line_length = <uint16_t>len(line)
            view.insertion_count += 1

    def __dealloc__(self):
        if self.view == NULL:
            return
        if self.view.picker != NULL:
            self.view.picker.release(self.view.picker)
        free(self.view.members)
        free(self.view.usable)
        free(self.view.insertions)
        free(self.view.persistent)
        free(self.view.cookie_slots)
        free(self.view.member_of_place)
        free(self.view)


cdef class PoolRuntime(Runtime):
    cdef Pool *pool
    cdef readonly View view

    def __init__(self, Engine engine, uint32_t slot_number):
        self.pool = <Pool *>calloc(1, sizeof(Pool))
        if self.pool == NULL:
            raise MemoryError
        self.pool.per_thread = self.per_thread
        self.pool.slot = self.slot
        reset_shared(&self.slot.shared)  # a data plane that was killed may have held the lock

    def __dealloc__(self):
        free(self.pool)

    def publish(self, View view) -> None:
        """From now on the pool is this; None: it is gone. The replaced view must be retired."""
        store_view(&self.pool.view, view.view if view is not None else NULL)
        self.view = view


cdef class Config:
    """An immutable `ListenerConfig`, with what it points to."""

    cdef ListenerConfig *config
    cdef object kept

    def __init__(
        self, str name, *, bint is_http, int64_t limit, uint32_t timeout_client_ms, PoolRuntime default_pool,
        LogProgram log_program, uint32_t minimum_body_rate, PolicyProgram policies=None, list policy_pools=None,
        ServerContext tls=None, uint32_t timeout_tunnel_ms=0, double rate=0, double source_rate=0, uint32_t burst=0,
        bytes hsts=None,
    ):
        cdef uint32_t index
        cdef PoolRuntime pool
        cdef ListenerConfig *config = <ListenerConfig *>calloc(1, sizeof(ListenerConfig))
        if config == NULL:
            raise MemoryError
        self.config = config
        policy_pools = policy_pools or []
        self.kept = (name.encode(), default_pool, log_program, policies, policy_pools, tls, hsts)
        config.name = <const char *><bytes>self.kept[0]
        config.name_length = <uint32_t>len(self.kept[0])
        config.is_http = is_http
        config.limit = limit
        config.timeout_client_ms = timeout_client_ms
        config.minimum_body_rate = minimum_body_rate
        config.timeout_tunnel_ms = timeout_tunnel_ms
        if rate:
            config.rate = rate_of(rate, burst or <uint32_t>max(rate, 1))
        if source_rate:
            config.source_rate = rate_of(source_rate, burst or <uint32_t>max(source_rate, 1))
        if tls is not None:
            config.tls = tls.context
        if hsts is not None:
            if len(hsts) > HSTS_BYTES:
                raise ValueError(f"a line of Strict-Transport-Security has at most {HSTS_BYTES} bytes")
            config.hsts = hsts
            config.hsts_length = <uint32_t>len(hsts)
        if default_pool is not None:
            config.default_pool = default_pool.pool
        if log_program is not None:
            config.log_format = log_program.format
        if policies is not None and policies.table.policy_count:
            for index in range(policies.table.policy_count):
                if (policies.table.policies[index].action == ACTION_POOL
                        and policies.table.policies[index].pool >= len(policy_pools)):
                    raise ValueError("a policy names a pool that is not there")
            config.policy_pools = <Pool **>calloc(len(policy_pools) + 1, sizeof(Pool *))
            if config.policy_pools == NULL:
                raise MemoryError
            for index, pool in enumerate(policy_pools):
                config.policy_pools[index] = pool.pool
            config.policies = policies.table

    def __dealloc__(self):
        if self.config != NULL:
            free(self.config.policy_pools)
            free(self.config)


cdef class ListenerRuntime(Runtime):
    cdef Listener *listener
    cdef readonly Config config

    def __init__(self, Engine engine, uint32_t slot_number):
        cdef uint32_t index
        self.listener = <Listener *>calloc(1, sizeof(Listener))
        if self.listener == NULL:
            raise MemoryError
        self.listener.per_thread = self.per_thread
        self.listener.slot = self.slot
        for index in range(MAX_BINDS):
            self.listener.binds[index].listener = self.listener
            self.listener.binds[index].fd = -1

    def __dealloc__(self):
        free(self.listener)

    def publish(self, Config config not None) -> None:
        store_config(&self.listener.config, config.config)
        self.config = config
        self.slot.limit = <uint32_t>min(config.config.limit, 0xFFFFFFFF)
        store_u32(&self.listener.paused, 1)  # the limit may have grown: look at the queue again

    def open_bind(self, int fd, str address, int port) -> None:
        """Accepts on a listening socket, which now belongs to the engine.

        Raises:
            OSError: the kernel refuses to watch it.
            ValueError: more than MAX_BINDS binds.
        """
        cdef uint32_t index
        cdef uint32_t thread
        cdef bytes host = (f"[{address}]:{port}" if ":" in address else f"{address}:{port}").encode()
        for index in range(MAX_BINDS):
            if self.listener.binds[index].fd < 0:
                break
        else:
            raise ValueError(f"a listener has at most {MAX_BINDS} addresses and ports")
        self.listener.binds[index].port = port
        memcpy(self.listener.binds[index].host, <const char *>host, len(host) + 1)
        self.listener.binds[index].host_length = <uint16_t>len(host)
        store_i32(&self.listener.binds[index].fd, fd)  # last: threads that look for paused listeners go by it
        for thread in range(self.engine.shared.thread_count):
            if thread_watch(&self.engine.threads[thread], self.listener, index) != 0:
                self.close_bind(port, address)
                raise OSError(f"cannot watch the listening socket of {address} port {port}")

    def close_bind(self, int port, str address) -> int:
        """Stops accepting there. Returns the descriptor, to be closed after retirement, or -1."""
        cdef uint32_t index
        cdef uint32_t thread
        cdef int fd
        cdef bytes host = (f"[{address}]:{port}" if ":" in address else f"{address}:{port}").encode()
        for index in range(MAX_BINDS):
            if self.listener.binds[index].fd >= 0 and self.listener.binds[index].host == host:
                fd = self.listener.binds[index].fd
                for thread in range(self.engine.shared.thread_count):
                    thread_unwatch(&self.engine.threads[thread], fd)
                store_i32(&self.listener.binds[index].fd, -1)
                return fd
        return -1

    def remove(self) -> None:
        store_u32(&self.listener.removed, 1)

    def evict(self) -> None:
        """The next sweep ends every session."""
        put_u64(&self.listener.evict_before_us, ~<uint64_t>0)

    @property
    def sessions(self) -> int:
        return load_i64(&self.slot.load.in_flight)


cdef class Engine:
    """N engine threads over one board.

    Args:
        memory: the board's mapping (writable buffer); it must stay open until `stop` has returned.
        thread_count: 1 to 64; the board must have rows for as many.
        slots: slots of the board.
        idle_lifetime_s: how long an unused member connection is kept.
        linger_s: how long a client may take to close after its last answer.
        splice_after: long reads in a row after which a TCP direction is spliced; 255 never.
        rated_sources: client addresses to remember for rate limits; 0 for none.
    """

    cdef Shared *shared
    cdef Thread *threads
    cdef uint8_t[::1] memory
    cdef uint32_t slots
    cdef Listener **listeners
    cdef list runners
    cdef list retired
    cdef _Array dropped

    def __init__(
        self, memory, uint32_t thread_count, uint32_t slots, *, double idle_lifetime_s=10.0, double linger_s=2.0,
        uint32_t splice_after=4, uint32_t rated_sources=0,
    ):
        cdef uint32_t index
        self.memory = memory
        self.slots = slots
        self.shared = <Shared *>calloc(1, sizeof(Shared))
        if self.shared == NULL or posix_memalign(<void **>&self.threads, 64, thread_count * sizeof(Thread)) != 0:
            raise MemoryError
        self.shared.threads = self.threads
        self.shared.thread_count = thread_count
        self.shared.session_limit = 1 << 40
        self.shared.idle_lifetime_ms = <uint32_t>(idle_lifetime_s * 1000)
        self.shared.linger_ms = <uint32_t>(linger_s * 1000)
        self.shared.splice_after = splice_after
        self.shared.log_socket = -1
        if rated_sources:
            self.shared.sources = source_table_new(rated_sources)
        self.runners = []
        self.retired = []
        for index in range(thread_count):
            if thread_open(&self.threads[index], self.shared, index) != 0:
                raise OSError("cannot set up an engine thread: out of descriptors or memory")

    def __dealloc__(self):
        free(self.listeners)
        free(self.threads)
        if self.shared != NULL:
            source_table_free(self.shared.sources)
        free(self.shared)

    cdef Slot *slot_at(self, uint32_t number) except NULL:
        if number >= self.slots:
            raise IndexError(number)
        return <Slot *>&self.memory[BOARD_HEADER_BYTES + number * sizeof(Slot)]

    cdef Row *row_at(self, uint32_t thread, uint32_t number) except NULL:
        cdef uint64_t rows = BOARD_HEADER_BYTES + self.slots * sizeof(Slot)
        return <Row *>&self.memory[rows + (<uint64_t>thread * self.slots + number) * sizeof(Row)]

    def start(self) -> None:
        for index in range(self.shared.thread_count):
            runner = threading.Thread(target=self._run, args=(index,), name=f"engine-{index}", daemon=True)
            self.runners.append(runner)
            runner.start()

    def _run(self, uint32_t index) -> None:
        with nogil:
            thread_run(&self.threads[index])

    def set_session_limit(self, int64_t limit) -> None:
        put_i64(&self.shared.session_limit, limit)

    def set_log_socket(self, int fd) -> None:
        """Where traffic-log lines go; the descriptor stays the caller's. -1: nowhere."""
        put_i32(&self.shared.log_socket, fd)

    def set_listeners(self, list runtimes) -> None:
        """All listeners, for the threads that look for paused ones."""
        cdef Listener **fresh = <Listener **>calloc(len(runtimes) + 1, sizeof(Listener *))
        cdef Listener **old = self.listeners
        cdef uint32_t index
        cdef ListenerRuntime runtime
        if fresh == NULL:
            raise MemoryError
        for index, runtime in enumerate(runtimes):
            fresh[index] = runtime.listener
        store_listeners(&self.shared.listeners, fresh)
        self.listeners = fresh
        if old != NULL:
            self.retire(_Array.of(old))

    def sweep(self, list members) -> None:
        """Idle clients of removed listeners and idle connections to these removed members are closed soon."""
        cdef uint32_t index
        cdef _Array dropped = _Array.of(calloc(len(members) + 1, sizeof(Member *)))
        if dropped.memory == NULL:
            raise MemoryError
        for index in range(len(members)):
            (<Member **>dropped.memory)[index] = (<MemberRuntime>members[index]).member
        store_members(&self.shared.dropped, <Member **>dropped.memory)
        for index in range(self.shared.thread_count):
            store_u32(&self.threads[index].sweep, 1)
            thread_wake(&self.threads[index])
        dropped.kept = members
        if self.dropped is not None:
            self.retire(self.dropped)
        self.dropped = dropped

    def sweep_sessions(self) -> None:
        """Sessions that an eviction ends are looked for soon."""
        cdef uint32_t index
        for index in range(self.shared.thread_count):
            store_u32(&self.threads[index].sweep, 1)
            thread_wake(&self.threads[index])

    def retire(self, item) -> None:
        """Keeps a replaced object until no thread can be using it."""
        self.retired.append((item, [load_u64(&self.threads[index].passes) for index in range(self.shared.thread_count)]))

    def retired_items(self) -> list:
        return [item for item, _passes in self.retired]

    def wake(self) -> None:
        for index in range(self.shared.thread_count):
            thread_wake(&self.threads[index])

    def release_retired(self) -> list:
        """Objects that every thread is done with since they were retired; the caller drops or closes them."""
        cdef list released = []
        cdef list kept = []
        for item, passes in self.retired:
            if all(load_u64(&self.threads[index].passes) >= passes[index] + 2 for index in range(len(passes))):
                released.append(item)
            else:
                kept.append((item, passes))
        self.retired = kept
        if kept:
            self.wake()
        return released

    @property
    def sessions(self) -> int:
        return load_i64(&self.shared.sessions)

    @property
    def member_failures(self) -> int:
        """Failed connections and answers of all members so far."""
        return load_i64(&self.shared.member_failures)

    @property
    def accept_failures(self) -> int:
        return load_u64(&self.shared.accept_failures)

    @property
    def log_drops(self) -> int:
        return load_u64(&self.shared.log_drops)

    def begin_stop(self, bint close_idle=True) -> None:
        """No connection is kept alive from now on; idle ones are closed, or else end with their next answer."""
        store_u32(&self.shared.stopping, 1)
        if not close_idle:
            return
        store_members(&self.shared.dropped, NULL)
        for index in range(self.shared.thread_count):
            store_u32(&self.threads[index].sweep, 1)
            thread_wake(&self.threads[index])

    def stop(self, list members) -> None:
        """Ends the threads and every session and connection that is left. `members`: all that ever had connections."""
        cdef uint32_t index
        cdef MemberRuntime member
        for index in range(self.shared.thread_count):
            store_u32(&self.threads[index].stop, 1)
            thread_wake(&self.threads[index])
        for runner in self.runners:
            runner.join()
        for member in members:
            for index in range(self.shared.thread_count):
                member_conns_close_idle(&self.threads[index], member.member)
        for index in range(self.shared.thread_count):
            thread_close(&self.threads[index])
        self.retired.clear()


cdef class _Array:
    """Memory that is freed with its last reference."""

    cdef void *memory
    cdef object kept            # what the pointers in it lead to

    @staticmethod
    cdef _Array of(void *memory):
        cdef _Array array = _Array()
        array.memory = memory
        return array

    def __dealloc__(self):
        free(self.memory)
