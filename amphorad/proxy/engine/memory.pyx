# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Blocks, pipes and timers of one engine thread; nothing here is shared between threads.

Blocks hold bytes that are stuck: a partial head, an unsent tail. They come in four sizes from free lists, so that a busy
thread never calls the allocator; lists are bounded, so that a burst is given back.

The timer wheel is lazy: a timer hangs in the slot of the earliest deadline it ever had since it was hung, and moving the
deadline later is one store. When the slot comes up, the timer is hung again if its deadline has moved. Precision is one
tick (16 ms); deadlines farther away than the wheel (16 s) are looked at once a turn.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from amphorad.proxy.engine.runtime cimport TIMER_SLOTS, TIMER_TICK_MS
from amphorad.proxy.engine.system cimport F_GETPIPE_SZ, F_SETPIPE_SZ, O_CLOEXEC, O_NONBLOCK, close, fcntl, pipe2

cdef extern from *:
    int __builtin_ctzll(unsigned long long) nogil

cdef enum:
    PIPES_KEPT = 64

# By width: of a message, and of a stream without end. A message of a megabyte goes through the caches in quarters; a stream gains
# more from fewer system calls. What stalled peers of one thread may hold in pipes is bounded.
cdef int[2] PIPE_BYTES = [262144, 1048576]
cdef uint32_t[2] PIPES_LIMIT = [1024, 256]

cdef uint32_t[4] CAPACITY = [1024, 4096, 36864, 266240]
cdef uint32_t[4] KEPT = [512, 128, 64, 8]


cdef Block *block_take(Thread *thread, uint64_t capacity) noexcept nogil:
    """An empty block with room for `capacity` bytes (266240 at most), or NULL when memory ran out."""
    cdef uint32_t size_class = 0
    cdef Block *block
    while size_class < 4 and CAPACITY[size_class] < capacity:
        size_class += 1
    if size_class == 4:
        return NULL
    block = thread.blocks[size_class]
    if block != NULL:
        thread.blocks[size_class] = block.next
        thread.block_counts[size_class] -= 1
    else:
        block = <Block *>malloc(sizeof(Block) + CAPACITY[size_class])
        if block == NULL:
            return NULL
        block.capacity = CAPACITY[size_class]
        block.size_class = size_class
    block.next = NULL
    block.start = 0
    block.length = 0
    return block


cdef void block_give(Thread *thread, Block *block) noexcept nogil:
    cdef uint32_t size_class
    if block == NULL:
        return
    size_class = block.size_class
    if thread.block_counts[size_class] >= KEPT[size_class]:
        free(block)
        return
    block.next = thread.blocks[size_class]
    thread.blocks[size_class] = block
    thread.block_counts[size_class] += 1


cdef void blocks_release(Thread *thread) noexcept nogil:
    cdef Block *block
    cdef Block *following
    cdef uint32_t size_class
    for size_class in range(4):
        block = thread.blocks[size_class]
        while block != NULL:
            following = block.next
            free(block)
            block = following
        thread.blocks[size_class] = NULL
        thread.block_counts[size_class] = 0


cdef Pipe *pipe_take(Thread *thread, uint32_t width) noexcept nogil:
    """An empty pipe, narrow (0) or wide (1), or NULL when descriptors or memory ran out (the caller copies instead)."""
    cdef Pipe *pipe = thread.pipes[width]
    cdef int[2] ends
    cdef int capacity
    if pipe != NULL:
        thread.pipes[width] = pipe.next
        thread.pipe_count[width] -= 1
        return pipe
    if thread.pipes_open[width] >= PIPES_LIMIT[width]:
        return NULL
    pipe = <Pipe *>malloc(sizeof(Pipe))
    if pipe == NULL:
        return NULL
    if pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0:
        free(pipe)
        return NULL
    capacity = fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES[width])
    if capacity < 0:  # the user's pipe quota is used up: the default size still works
        capacity = fcntl(ends[1], F_GETPIPE_SZ, 0)
    thread.pipes_open[width] += 1
    pipe.next = NULL
    pipe.width = width
    pipe.read_end = ends[0]
    pipe.write_end = ends[1]
    pipe.capacity = capacity
    pipe.held = 0
    pipe.more = 0
    return pipe


cdef void pipe_destroy(Thread *thread, Pipe *pipe) noexcept nogil:
    thread.pipes_open[pipe.width] -= 1
    close(pipe.read_end)
    close(pipe.write_end)
    free(pipe)


cdef void pipe_give(Thread *thread, Pipe *pipe) noexcept nogil:
    """Takes a pipe back. One that still holds bytes is of no use to anyone else."""
    if pipe == NULL:
        return
    if pipe.held or thread.pipe_count[pipe.width] >= PIPES_KEPT:
        pipe_destroy(thread, pipe)
        return
    pipe.next = thread.pipes[pipe.width]
    thread.pipes[pipe.width] = pipe
    thread.pipe_count[pipe.width] += 1


cdef void pipes_release(Thread *thread) noexcept nogil:
    cdef Pipe *pipe
    cdef Pipe *following
    cdef uint32_t width
    for width in range(2):
        pipe = thread.pipes[width]
        while pipe != NULL:
            following = pipe.next
            pipe_destroy(thread, pipe)
            pipe = following
        thread.pipes[width] = NULL
        thread.pipe_count[width] = 0


cdef inline void hang(Thread *thread, Timer *timer) noexcept nogil:
    cdef uint64_t due = timer.deadline // TIMER_TICK_MS + 1
    cdef uint32_t slot
    if due < thread.timer_tick:
        due = thread.timer_tick
    elif due >= thread.timer_tick + TIMER_SLOTS:
        due = thread.timer_tick + TIMER_SLOTS - 1
    timer.due = due
    slot = due & (TIMER_SLOTS - 1)
    timer.next = thread.timer_slots[slot]
    if timer.next != NULL:
        timer.next.link = &timer.next
    timer.link = &thread.timer_slots[slot]
    thread.timer_slots[slot] = timer
    thread.timer_bits[slot >> 6] |= <uint64_t>1 << (slot & 63)


cdef void timer_set(Thread *thread, Timer *timer, uint64_t deadline) noexcept nogil:
    """Fires at or just after `deadline` (thread's milliseconds); replaces an earlier setting."""
    timer.deadline = deadline
    if timer.link != NULL:
        if deadline // TIMER_TICK_MS + 1 >= timer.due:
            return
        timer_cancel(timer)
    hang(thread, timer)


cdef void timer_cancel(Timer *timer) noexcept nogil:
    if timer.link == NULL:
        return
    timer.link[0] = timer.next
    if timer.next != NULL:
        timer.next.link = timer.link
    timer.link = NULL
    timer.next = NULL


cdef void timers_advance(Thread *thread) noexcept nogil:
    """Fires every timer whose deadline has passed."""
    cdef uint64_t until = thread.now_ms // TIMER_TICK_MS
    cdef uint32_t slot
    cdef Timer *timer
    cdef Timer *due
    if until >= thread.timer_tick + TIMER_SLOTS:
        thread.timer_tick = until - TIMER_SLOTS + 1  # asleep for more than a turn: one turn sees every slot
    while thread.timer_tick <= until:
        slot = thread.timer_tick & (TIMER_SLOTS - 1)
        thread.timer_tick += 1
        if not (thread.timer_bits[slot >> 6] >> (slot & 63)) & 1:
            continue
        thread.timer_bits[slot >> 6] &= ~(<uint64_t>1 << (slot & 63))
        due = thread.timer_slots[slot]
        thread.timer_slots[slot] = NULL
        if due != NULL:
            due.link = &due
        while due != NULL:  # a handler may cancel any timer of this list, or hang new ones elsewhere
            timer = due
            timer_cancel(timer)
            if timer.deadline > thread.now_ms:
                hang(thread, timer)
            else:
                (<Conn *>timer).kind.on_timer(<Conn *>timer)


cdef int64_t timers_wait_ms(Thread *thread) noexcept nogil:
    """Milliseconds until the next slot that is not empty; -1 without any."""
    cdef uint32_t first = thread.timer_tick & (TIMER_SLOTS - 1)
    cdef uint32_t word = first >> 6
    cdef uint64_t bits = thread.timer_bits[word] & (~<uint64_t>0 << (first & 63))
    cdef uint32_t looked = 0
    cdef uint32_t slot
    cdef uint64_t at
    while True:
        if bits:
            slot = word * 64 + <uint32_t>__builtin_ctzll(bits)
            at = (thread.timer_tick + ((slot - first) & (TIMER_SLOTS - 1))) * TIMER_TICK_MS
            return <int64_t>(at - thread.now_ms) if at > thread.now_ms else 0
        looked += 1
        if looked > 16:
            return -1
        word = (word + 1) & 15
        bits = thread.timer_bits[word]
