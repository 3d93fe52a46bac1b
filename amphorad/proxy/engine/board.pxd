"""The board's structs as the engine sees them; the layout is described in `amphorad/board.py`."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from amphorad.algorithms.picker cimport MemberLoad, PickerShared

cdef enum:
    BOARD_HEADER_BYTES = 4096

cdef enum:                      # counters, in the order of `amphorad.board.COUNTERS`
    C_CONNECTIONS = 0
    C_REQUESTS
    C_BYTES_IN
    C_BYTES_OUT
    C_RESPONSES_1XX
    C_RESPONSES_2XX
    C_RESPONSES_3XX
    C_RESPONSES_4XX
    C_RESPONSES_5XX
    C_RESPONSES_OTHER
    C_REQUEST_ERRORS
    C_CONNECT_ERRORS
    C_RESPONSE_ERRORS
    C_RETRIES
    C_REDISPATCHES
    C_CONNECTS
    C_REUSES
    C_CLIENT_ABORTS
    C_MEMBER_ABORTS
    C_DENIED
    COUNTER_COUNT

cdef enum:                      # MemberState
    STATE_NO_CHECK = 0
    STATE_UP
    STATE_DOWN
    STATE_MAINT
    STATE_DRAIN

cdef struct Slot:               # 512 bytes
    uint32_t kind
    uint32_t state
    uint32_t weight
    uint32_t limit
    MemberLoad load             # in_flight: sessions of a listener, exchanges or sessions at a member
    PickerShared shared
    int64_t max_current
    int64_t idle
    int64_t changed_ns
    char names[3][96]
    uint8_t reserved[160]

cdef struct Row:                # 512 bytes; one writer
    uint64_t counters[32]
    uint32_t buckets[64]


cdef inline uint32_t latency_bucket(uint64_t us) noexcept nogil:
    """Bucket of a duration: four per octave, from 16 us."""
    cdef uint64_t scaled = us >> 4
    cdef uint32_t octave
    cdef uint32_t bucket
    if scaled == 0:
        return 0
    octave = 63 - <uint32_t>__builtin_clzll(scaled)
    bucket = octave * 4 + <uint32_t>(((us >> octave) >> 2) & 3)
    return bucket if bucket < 63 else 63


cdef extern from *:
    int __builtin_clzll(unsigned long long) nogil
