"""The engine's structures, as a table of contents.

    Thread      one engine thread: epoll set, timers, run queue, free lists, scratch memory
    Conn        one socket endpoint, of a client or of a member, with its transport (plain TCP, later TLS or an h2 stream)
    Session     one client connection; it embeds the client's Conn and the state of its present HTTP exchange
    MemberConn  one connection to a member, in use by a session or idle in its member's pool
    Listener, Pool, Member
                what lives as long as its identity: counters, gauges, idle connections. They point to their present,
                immutable configuration (ListenerConfig, PoolView), which the main thread swaps; a replaced one is freed
                when every thread has finished a pass of its loop since (nobody keeps such a pointer over passes).

Who owns what: a Conn owns its descriptor and its `out` block; a Session owns its three blocks and its place in the lists;
a Thread owns its sessions and idle member connections. Only the owning thread touches them. Listener, Pool and Member are
freed by the main thread when they are removed and no thread refers to them (`PerThread.references`).

    session phases (HTTP)

        REQUEST_HEAD -> CONNECTING -> EXCHANGE -> REQUEST_HEAD (keep-alive)
              |             |   ^        |  |
              |          WAITING (retry) |  +-> TUNNEL (after 101)
              +-------------+------------+----> LINGERING (last answer sent, client's bytes discarded) -> gone

    REQUEST_HEAD -> MULTIPLEXED (HTTP/2: the connection's session; each stream has one of its own, which begins anew above)

    session phases (TCP): CONNECTING (and WAITING) -> TUNNEL -> gone
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from amphorad.algorithms.picker cimport Picker
from amphorad.proxy.engine.board cimport Row, Slot
from amphorad.proxy.engine.rate_limit cimport Rate, SourceTable
from amphorad.proxy.engine.stick_table cimport StickTable
from amphorad.proxy.engine.system cimport iovec, sockaddr_storage
from amphorad.proxy.wire.chunks cimport ChunkDecoder
from amphorad.proxy.wire.http1 cimport Head
from amphorad.proxy.wire.log_line cimport LogFormat
from amphorad.proxy.wire.matcher cimport PolicyTable
from amphorad.proxy.wire.regex cimport RegexScratch

cdef enum:
    HEADROOM = 4096             # in front of received bytes, so that a longer head can be written in place
    SCRATCH_BYTES = 262144      # longest single read
    HEAD_BYTES = 16384          # longest message head; also the first read of a message
    COMPOSE_BYTES = 32768       # a head as it is sent
    TIMER_SLOTS = 1024
    MAX_BINDS = 32              # addresses and ports of one listener
    INBOX_PLACES = 256
    TIMER_TICK_MS = 16
    HSTS_BYTES = 512            # longest Strict-Transport-Security line

cdef enum:                      # Conn.flags
    READABLE = 1                # a read may find something (edge triggered: stays set until a read falls short)
    WRITABLE = 2
    PEER_CLOSED = 4             # EPOLLRDHUP or EPOLLHUP seen: reads must go on until EOF
    FAILED = 8                  # EPOLLERR seen
    AT_EOF = 16                 # a read returned 0
    SHUT = 32                   # our direction is closed
    QUEUED = 64                 # in the run queue
    REGISTERED = 128            # in the epoll set
    DEAD = 256                  # closed; the memory is freed at the end of the pass
    HANDSHAKING = 512           # the transport is not ready for data yet

cdef enum:                      # Session.phase
    REQUEST_HEAD = 0
    CONNECTING
    WAITING
    EXCHANGE
    TUNNEL
    LINGERING
    MULTIPLEXED

cdef enum:                      # Session.flags
    KEEP_CLIENT = 1             # the client connection stays open after this exchange
    PERSISTED = 4               # persistence named the member
    REQUEST_DONE = 2            # the whole request was read from the client
    RESPONSE_STARTED = 8        # a final response head was sent to the client
    RESPONSE_DONE = 16          # the whole response was read from the member
    MEMBER_KEEPS = 32           # the member connection may be used again
    REPLAYABLE = 64             # idempotent and bodiless: may be sent again
    UNCHUNK = 128               # the client speaks HTTP/1.0: chunked coding is removed
    HEAD_TIMED = 256            # the request head's own deadline is armed
    OFFERED_UPGRADE = 512
    BOUND_CONNECTION = 1024     # authentication is bound to the member connection: it serves this session only
    CLIENT_CLOSES = 2048        # the client asked for the connection's end
    TO_REMEMBER = 4096          # the client's address is to be remembered with the member, once it is connected
    SPLICE_RESPONSE = 8192
    MEMBER_STOPPED_READING = 16384

cdef enum:                      # Session.needs
    NEEDS_HTTP_1 = 1            # HTTP/2 cannot carry this request, or the member does not take it so
    NEEDS_TRAILERS = 2          # the client has said `te: trailers`

cdef struct Block:              # memory while data is stuck; the bytes follow the struct
    Block *next
    uint32_t capacity
    uint32_t start
    uint32_t length
    uint32_t size_class

cdef struct Timer:
    Timer *next
    Timer **link                # what points here; NULL = not armed
    uint64_t deadline           # ms of the thread's clock; moving it later costs one store
    uint64_t due                # the tick whose slot it hangs in

# What lies between a Conn and its descriptor: NULL for plain TCP, later TLS, or a stream of an HTTP/2 connection (whose
# Conn has no descriptor, fd -1, and is woken by conn_queue). A spike with libssl on this seam (own BIO, 16 KiB reads) took
# no change of sessions and exchanges and cost 0.58-0.90 of HAProxy's CPU; what it needed is written here as the contract:
#   - receive may return less than is there; only WOULD_BLOCK means empty. It may clear READABLE itself when it knows that
#     neither the socket nor its own buffers hold more, which saves the read that would tell.
#   - transmit takes all it can: a short count means that it would block, and nothing else.
#   - each direction may wait for the other one of the socket, so any event makes both worth a try (see loop.dispatch).
cdef struct Transport:
    ssize_t (*receive)(Conn *conn, void *buffer, size_t length) noexcept nogil   # > 0; 0 = EOF; -1 with errno
    ssize_t (*transmit)(Conn *conn, const void *buffer, size_t length, int more) noexcept nogil   # >= 0; -1 with errno
    int (*finish)(Conn *conn) noexcept nogil      # ends our direction
    void (*release)(Conn *conn) noexcept nogil    # frees `transport_state`

cdef struct ConnKind:
    void (*on_ready)(Conn *conn) noexcept nogil
    void (*on_timer)(Conn *conn) noexcept nogil
    void (*free)(Conn *conn) noexcept nogil

cdef struct Conn:
    Timer timer                 # first: a Timer pointer is a Conn pointer
    const ConnKind *kind
    const Transport *transport
    void *transport_state
    Thread *thread
    Conn *queue_next            # run queue or graveyard
    Block *out                  # unsent tail
    int32_t fd
    uint16_t flags
    uint8_t full_reads          # in a row: when a stream proves long it is spliced
    uint8_t window              # log2 of the next read
    Pipe *pipe                  # bytes on their way to this Conn

cdef struct Pipe:
    Pipe *next
    int32_t read_end
    int32_t write_end
    uint32_t capacity
    uint32_t held               # bytes inside
    uint32_t more               # SPLICE_F_MORE: the stream goes on
    uint32_t width              # which list it belongs to

cdef struct MemberConn:
    Conn conn
    Session *session            # NULL while idle
    Member *member
    MemberConn *idle_next
    MemberConn *idle_previous
    uint32_t uses               # exchanges begun on it
    uint8_t is_idle
    uint8_t is_bound            # authentication bound it to one client
    uint8_t is_private          # version of the PROXY header that it began with, 0 = none: it serves no other client
    uint8_t greeting            # version of the PROXY header that is still to be sent; 0 = none

cdef struct Session:
    Conn client
    MemberConn *member_conn
    MemberConn *kept            # private connections that wait for this client's next request, the latest first
    Session *next
    Session *previous
    Listener *listener
    Pool *pool                  # referenced while set
    Member *member              # referenced while set
    Member *wanted              # by persistence; only inside one step
    Block *pending              # received from the client, not consumed: partial head, pipelined requests, early bytes
    Block *request              # composed request head (and first body bytes) until the member cannot fail it any more
    Block *response             # partial response head
    Block *line                 # request line for the traffic log, where the one in the head is not what the client sent
    Session *carrier            # of a stream: the session of its connection, which has the socket; else NULL
    void *multiplex             # of a carrier: its `http2.state.Connection`
    uint8_t address[16]
    uint8_t destination[16]     # that the client connected to; only asked for when a member is to be told
    uint8_t address_length
    uint8_t destination_length  # 0 = not asked yet
    uint8_t kept_count
    uint8_t phase
    uint8_t retries_left
    uint8_t method
    uint8_t needs               # of the member connection
    uint16_t client_port
    uint16_t port               # that the client connected to
    uint16_t bind
    uint16_t flags
    uint16_t status
    uint8_t request_body        # BodyKind
    uint8_t response_body
    uint8_t client_minor
    uint8_t exchanges           # saturating count of exchanges begun
    char cause                  # why it ended, as the traffic log says it
    char stage
    char cookie_in              # what became of our own cookie, as the traffic log says it; 0: nothing to say
    char cookie_out
    int64_t request_left
    int64_t response_left
    ChunkDecoder request_chunks
    ChunkDecoder response_chunks
    uint64_t start_us
    uint64_t body_received      # of the request since `rate_from_ms`, for the minimum rate
    uint64_t rate_from_ms
    uint64_t head_bytes         # of the request as received, with what came along of the body
    uint32_t timeout_client_ms
    uint32_t timeout_member_ms
    uint32_t minimum_body_rate
    uint32_t head_scanned       # how far the search for a head's end got
    LogEntry *log               # only while an exchange runs on a logging listener

cdef struct LogEntry:           # what the traffic log needs beyond the session
    Block *block                # holds this struct and the request line behind it
    int64_t wall_us             # when the request or the connection began
    uint64_t bytes_in
    uint64_t bytes_out
    uint64_t connected_us
    uint32_t line_length

cdef struct PerThread:          # one cache line per object and thread
    Row *row
    MemberConn *idle_head
    uint32_t idle_count
    int32_t references
    uint32_t used               # member connections that carry something now
    uint32_t used_peak          # the most since `peak_since_ms`
    uint32_t used_peak_before   # the most in the period before
    uint64_t peak_since_ms
    void *tls_session           # SSL_SESSION to resume the next connection with; members only
    void *trunks                # `http2.state.Trunk` list: shared connections that speak HTTP/2; members only

cdef struct ListenerBind:
    Listener *listener
    int32_t fd                  # -1: free
    uint16_t port
    uint16_t host_length
    char host[56]               # address and port, as a Host field has them

cdef struct Listener:
    PerThread *per_thread
    Slot *slot
    ListenerConfig *config      # swapped by the main thread
    ListenerBind binds[32]
    uint32_t paused             # connections wait in the kernel's queue
    uint32_t removed
    uint64_t full_at_ns         # of its rate limit, see `rate_limit.pyx`
    uint64_t evict_before_us    # the next sweep ends what began before that

cdef struct ListenerConfig:
    uint8_t is_http
    int64_t limit
    uint32_t timeout_client_ms
    uint32_t timeout_tunnel_ms  # 0: those of client and member
    Rate rate
    Rate source_rate
    Pool *default_pool          # NULL: 503, or a close on a TCP listener
    PolicyTable *policies       # NULL: none
    Pool **policy_pools         # what `Policy.pool` counts in
    LogFormat *log_format       # NULL: not logged
    uint32_t minimum_body_rate  # bytes per second, 0 = no minimum
    const char *name
    uint32_t name_length
    void *tls                   # SSL_CTX of the default certificate; NULL: plain
    const char *hsts            # complete header line for members' responses; NULL: none
    uint32_t hsts_length

cdef struct Pool:
    PerThread *per_thread
    Slot *slot
    PoolView *view              # swapped by the main thread; NULL once the pool is removed
    uint32_t removed

cdef enum:                      # Insertion.value
    INSERT_TEXT = 0
    INSERT_DESTINATION_PORT
    INSERT_CLIENT_ADDRESS
    INSERT_HOST                 # what the client asked for; nothing without a Host field
    INSERT_TRACEPARENT          # W3C Trace Context, unless the client has sent one
    INSERT_TLS                  # the first of the facts about the client's certificate, see `proxy/tls/facts.pxd`

cdef struct Insertion:
    uint8_t value
    uint16_t name_length
    uint16_t line_length
    const char *name            # lower case
    const char *line            # complete line for INSERT_TEXT, else `name: `

cdef enum:                      # PoolView.persistence
    NO_PERSISTENCE = 0
    SOURCE_PERSISTENCE
    APP_COOKIE_PERSISTENCE
    HTTP_COOKIE_PERSISTENCE
    NO_PLACE = 0xffffffff

cdef struct PersistentMember:
    const char *cookie          # our cookie's value for it
    uint32_t cookie_length
    uint32_t place              # of its name in the stick table
    uint8_t sticks              # may be used for the clients that are its own

cdef struct PoolView:
    uint32_t member_count
    Member **members            # all members in the order of the file
    uint32_t usable_count
    uint32_t *usable            # picker index -> index into members
    Picker *picker
    uint8_t is_http
    uint8_t reuse               # ReusePolicy: 0 never, 1 safe, 2 retry
    uint8_t forwarded_for
    uint8_t proxy_protocol      # version of the PROXY header to members; 0 = none
    uint8_t retries
    uint8_t redispatch
    uint32_t timeout_connect_ms
    uint32_t timeout_member_ms
    uint32_t insertion_count
    Insertion *insertions
    const char *name
    uint32_t name_length
    uint8_t persistence
    StickTable *table
    PersistentMember *persistent    # by place in `members`
    uint32_t *member_of_place       # by place in the table's names: place in `members` + 1, 0 = none
    uint32_t place_count
    uint32_t *cookie_slots          # hash of a cookie's value: place in `members` + 1, 0 = none; the next one on a collision
    uint32_t cookie_mask
    const char *cookie_name
    uint32_t cookie_name_length
    const char *cookie_attributes   # of our own cookie, such as `; HttpOnly`
    uint32_t cookie_attributes_length
    void *tls                   # SSL_CTX towards the members; NULL: plain
    uint8_t tls_sends_sni       # the name that the client asked for

cdef struct Member:
    PerThread *per_thread
    Slot *slot
    uint64_t failed_us          # last connection failure; retries prefer members without a recent one
    int64_t connect_failures    # in a row, see `observation.pxd`
    int64_t answer_failures
    uint64_t evict_before_us    # as for a listener
    sockaddr_storage address
    uint32_t address_length
    uint32_t removed
    uint32_t usable
    uint32_t sticks             # usable for the clients that are its own, also while it drains
    const char *name
    uint32_t name_length

cdef struct Shared:             # what all threads of an engine see
    Thread *threads
    uint32_t thread_count
    uint32_t stopping           # 1: finish what runs, keep nothing alive
    uint32_t paused             # some listener is paused
    Listener **listeners        # ends with NULL; swapped by the main thread
    int64_t sessions            # client connections, all listeners
    int64_t session_limit
    uint64_t accept_failures    # descriptors or memory ran out
    int64_t member_failures     # of all members, for the main thread to see that there is something to look at
    uint32_t idle_lifetime_ms
    uint32_t linger_ms
    uint32_t splice_after
    Member **dropped            # ends with NULL: removed members, whose idle connections the next sweep closes
    int32_t log_socket
    uint64_t log_drops
    SourceTable *sources        # NULL: no rate limit of single sources

cdef struct Thread:
    Shared *shared
    uint32_t index
    int32_t epoll_fd
    int32_t event_fd
    uint64_t passes             # counts up at falling asleep (to odd) and at waking (to even)
    uint32_t stop
    uint32_t sweep              # main thread asks: close what should not be kept
    uint64_t epoch_us
    uint64_t now_us
    uint64_t now_ms             # since `epoch_us`
    uint64_t timer_bits[16]     # a bit per slot that is not empty
    Timer *timer_slots[1024]
    uint64_t timer_tick         # next tick to look at
    Conn *queue_head
    Conn *queue_tail
    Conn *graveyard
    Block *blocks[4]
    uint32_t block_counts[4]
    Session *free_sessions
    MemberConn *free_member_conns
    Session *sessions           # all of this thread
    int64_t session_count
    Pipe *pipes[2]              # by width
    uint32_t[2] pipe_count      # in the list
    uint32_t[2] pipes_open      # in the list and in use
    uint32_t accept_wanted      # a place became free and connections wait: accept at the end of this pass
    uint64_t accept_retry_ms    # accept pauses until then after descriptors ran out; 0 = not
    uint32_t inbox_lock         # connections handed over by other threads
    uint32_t inbox_count
    Handover *inbox
    Head head                   # of the message being parsed
    uint8_t *scratch            # HEADROOM + SCRATCH_BYTES
    uint8_t *compose            # COMPOSE_BYTES
    uint8_t *log_buffer
    uint32_t log_used
    uint32_t log_lines
    iovec *log_vectors
    void *log_clock
    int64_t wall_s              # wall clock at the begin of the pass, when something is logged
    RegexScratch *regex_scratch # NULL until an L7 rule searches
    uint64_t trace_state        # of the generator of trace ids; 0: not seeded

cdef struct Handover:
    int32_t fd
    uint16_t bind
    uint16_t client_port
    uint8_t address_length
    uint8_t address[16]
    Listener *target


cdef extern from *:
    PoolView *load_view "amphorad_load"(PoolView **view) nogil
    ListenerConfig *load_config "amphorad_load"(ListenerConfig **config) nogil
    Listener **load_listeners "amphorad_load"(Listener ***listeners) nogil
    Member **load_members "amphorad_load"(Member ***members) nogil
