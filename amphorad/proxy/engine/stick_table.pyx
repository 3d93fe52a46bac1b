# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Stick tables: find, store, forget the oldest; and what peers and a new process need of them.

The lock is held for a few hundred nanoseconds and never over a system call. Engine threads call the functions without the
interpreter; `Table` is for the main thread and for tests. Times are milliseconds of CLOCK_MONOTONIC, which all processes
of a machine share.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from amphorad.algorithms.shared_memory cimport acquire, leave

cdef extern from *:
    """
    typedef volatile uint32_t amphorad_volatile_u32;
    #define amphorad_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    """
    ctypedef uint32_t volatile_u32 "amphorad_volatile_u32"
    void fence "amphorad_fence"() noexcept nogil

KIND_ADDRESS = KEY_ADDRESS
KIND_STRING = KEY_STRING
NAMES_AT_MOST = NAME_LIMIT
LONGEST_NAME = NAME_BYTES - 1


cdef inline TableEntry *entry_at(StickTable *table, uint32_t number) noexcept nogil:
    return <TableEntry *>(table.entries + <uint64_t>(number - 1) * table.head.entry_bytes)


cdef uint64_t hash_key(uint64_t seed, const uint8_t *key, uint32_t length) noexcept nogil:
    """Keyed, so that clients cannot choose keys that share a chain."""
    cdef uint64_t value = seed ^ length
    cdef uint64_t word
    while length >= 8:
        memcpy(&word, key, 8)
        value = (value ^ word) * <uint64_t>0x9E3779B97F4A7C15
        value ^= value >> 29
        key += 8
        length -= 8
    word = 0
    memcpy(&word, key, length)
    value = (value ^ word) * <uint64_t>0xBF58476D1CE4E5B9
    value ^= value >> 32
    value *= <uint64_t>0x94D049BB133111EB
    return value ^ value >> 29


cdef inline uint32_t *bucket_of(StickTable *table, const uint8_t *key, uint32_t length) noexcept nogil:
    return &table.buckets[hash_key(table.head.seed, key, length) & table.head.bucket_mask]


cdef uint32_t look_up(StickTable *table, const uint8_t *key, uint32_t length) noexcept nogil:
    cdef uint32_t number = bucket_of(table, key, length)[0]
    cdef TableEntry *entry
    while number:
        entry = entry_at(table, number)
        if entry.key_length == length and memcmp(entry.key, key, length) == 0:
            return number
        number = entry.next
    return 0


cdef void unlink_use(StickTable *table, TableEntry *entry) noexcept nogil:
    if entry.newer:
        entry_at(table, entry.newer).older = entry.older
    else:
        table.head.newest = entry.older
    if entry.older:
        entry_at(table, entry.older).newer = entry.newer
    else:
        table.head.oldest = entry.newer


cdef void link_newest(StickTable *table, uint32_t number) noexcept nogil:
    cdef TableEntry *entry = entry_at(table, number)
    entry.newer = 0
    entry.older = table.head.newest
    if table.head.newest:
        entry_at(table, table.head.newest).newer = number
    else:
        table.head.oldest = number
    table.head.newest = number


cdef void touch(StickTable *table, uint32_t number, uint64_t now_ms) noexcept nogil:
    cdef TableEntry *entry = entry_at(table, number)
    entry.touched_ms = now_ms
    if table.head.newest != number:
        unlink_use(table, entry)
        link_newest(table, number)


cdef void announce(StickTable *table, uint32_t number, uint64_t now_ms) noexcept nogil:
    cdef TableEntry *entry = entry_at(table, number)
    table.head.update += 1
    if table.head.update == 0:
        table.head.update = 1
    entry.update = table.head.update
    entry.announced_s = <uint32_t>(now_ms // 1000)
    table.ring[entry.update & table.head.ring_mask] = number


cdef void forget(StickTable *table, uint32_t number) noexcept nogil:
    cdef TableEntry *entry = entry_at(table, number)
    cdef uint32_t *link = bucket_of(table, entry.key, entry.key_length)
    while link[0] != number:
        link = &entry_at(table, link[0]).next
    link[0] = entry.next
    unlink_use(table, entry)
    entry.is_used = 0
    entry.update = 0
    entry.next = table.head.free
    table.head.free = number
    table.head.count -= 1


cdef uint32_t take_entry(StickTable *table) noexcept nogil:
    cdef TableHead *head = table.head
    cdef uint32_t number = head.free
    if number == 0 and head.used < head.size:
        head.used += 1
        return head.used
    if number == 0:
        forget(table, head.oldest)
        head.evictions += 1
        number = head.free
    head.free = entry_at(table, number).next
    return number


cdef inline int is_expired(const TableHead *head, const TableEntry *entry, uint64_t now_ms) noexcept nogil:
    return head.expire_ms and now_ms > entry.touched_ms and now_ms - entry.touched_ms > head.expire_ms


cdef int64_t table_find(StickTable *table, const uint8_t *key, uint32_t length, uint64_t now_ms) noexcept nogil:
    cdef TableHead *head = table.head
    cdef TableEntry *entry
    cdef int64_t found = -1
    cdef uint32_t number
    if length > head.key_limit:
        length = head.key_limit
    acquire(&head.lock)
    number = look_up(table, key, length)
    if number:
        entry = entry_at(table, number)
        if is_expired(head, entry, now_ms):
            forget(table, number)
        else:
            touch(table, number, now_ms)
            if head.announces and <uint32_t>(now_ms // 1000) - entry.announced_s >= REFRESH_S:
                announce(table, number, now_ms)
            found = entry.member
    leave(&head.lock)
    return found


cdef uint32_t put(StickTable *table, const uint8_t *key, uint32_t length, uint32_t member, uint64_t now_ms,
                  int *changed) noexcept nogil:
    """The entry of that key, made to say `member`. Under the lock."""
    cdef uint32_t number = look_up(table, key, length)
    cdef TableEntry *entry
    cdef uint32_t *bucket
    if number:
        entry = entry_at(table, number)
        changed[0] = entry.member != member
        entry.member = member
        touch(table, number, now_ms)
        if changed[0]:
            table.head.changes += 1
        return number
    number = take_entry(table)
    entry = entry_at(table, number)
    (<volatile_u32 *>&entry.version)[0] = entry.version | 1
    fence()
    memcpy(entry.key, key, length)
    entry.key_length = <uint16_t>length
    entry.member = member
    entry.update = 0
    entry.announced_s = 0
    entry.touched_ms = now_ms
    entry.is_used = 1
    fence()
    (<volatile_u32 *>&entry.version)[0] = entry.version + 1
    bucket = bucket_of(table, key, length)
    entry.next = bucket[0]
    bucket[0] = number
    link_newest(table, number)
    table.head.count += 1
    table.head.changes += 1
    changed[0] = 1
    return number


cdef void table_store(StickTable *table, const uint8_t *key, uint32_t length, uint32_t member,
                      uint64_t now_ms) noexcept nogil:
    cdef TableHead *head = table.head
    cdef uint32_t number
    cdef int changed = 0
    if length > head.key_limit:
        length = head.key_limit
    acquire(&head.lock)
    number = put(table, key, length, member, now_ms, &changed)
    if changed or (head.announces
                   and <uint32_t>(now_ms // 1000) - entry_at(table, number).announced_s >= REFRESH_S):
        announce(table, number, now_ms)
    leave(&head.lock)


cdef uint32_t power_above(uint32_t count) noexcept nogil:
    cdef uint32_t power = 16
    while power < count:
        power *= 2
    return power


cdef uint64_t ring_at(uint32_t size) noexcept nogil:
    return TABLE_HEAD_BYTES + NAME_LIMIT * NAME_BYTES + <uint64_t>power_above(size) * 4


cdef uint64_t entries_at(uint32_t size) noexcept nogil:
    return (ring_at(size) + <uint64_t>power_above(size) * 4 + 63) // 64 * 64


cdef uint32_t bytes_of_entry(uint32_t key_limit) noexcept nogil:
    return (sizeof(TableEntry) - 8 + key_limit + 7) // 8 * 8


def table_bytes(uint32_t size, uint32_t key_limit):
    """Bytes that a table needs at most; pages that are never used take no memory."""
    return entries_at(size) + <uint64_t>size * bytes_of_entry(key_limit)


cdef class Table:
    """A table at `offset` of a mapping, which must be writable. Memory that is all zero wants `format` first."""

    def __init__(self, memory, uint64_t offset):
        self.memory = memory
        self.table.head = <TableHead *>&self.memory[offset]
        self.locate()

    cdef locate(self):
        cdef uint8_t *base = <uint8_t *>self.table.head
        self.table.names = base + TABLE_HEAD_BYTES
        self.table.buckets = <uint32_t *>(self.table.names + NAME_LIMIT * NAME_BYTES)
        self.table.ring = <uint32_t *>(base + ring_at(self.table.head.size))
        self.table.entries = base + entries_at(self.table.head.size)

    def format(self, uint32_t kind, uint32_t size, uint32_t key_limit, uint64_t seed, double expire_s=0.0):
        """Makes an empty table of memory that is all zero."""
        cdef TableHead *head = self.table.head
        if kind not in (KEY_ADDRESS, KEY_STRING) or not size or not key_limit:
            raise ValueError("a stick table needs a kind, a size and a length of keys")
        head.size = size
        head.key_limit = 16 if kind == KEY_ADDRESS else key_limit
        head.entry_bytes = bytes_of_entry(head.key_limit)
        head.bucket_mask = power_above(size) - 1
        head.ring_mask = power_above(size) - 1
        head.seed = seed
        head.expire_ms = <uint64_t>(expire_s * 1000)
        head.kind = kind
        self.locate()

    def recover(self):
        """For a new process: takes the lock from one that died with it. True when that was so."""
        cdef TableHead *head = self.table.head
        if not head.lock:
            return False
        with nogil:
            rebuild(&self.table)
            leave(&head.lock)
        return True

    # --- members ---

    def name_place(self, str name not None, keep=()):
        """Where the name of a member stands, put there if it is new; -1: it is too long, or the names are used up.

        `keep`: names that stay although no entry refers to them. One process at a time puts names into a table.
        """
        cdef bytes wanted = name.encode()
        cdef uint32_t place
        if self.places is None:
            self.places = {known: place for place, known in enumerate(self.names())}
        if name in self.places:
            return self.places[name]
        if not 0 < len(wanted) < NAME_BYTES:
            return -1
        place = <uint32_t>len(self.places)
        if place >= NAME_LIMIT:
            place = self.recycle_name(frozenset(keep))
            if place == NAME_LIMIT:
                return -1
            del self.places[self.name_at(place)]
        self.places[name] = place
        memset(self.table.names + place * NAME_BYTES, 0, NAME_BYTES)
        memcpy(self.table.names + place * NAME_BYTES, <const char *>wanted, len(wanted))
        return place

    cdef uint32_t recycle_name(self, keep):
        cdef uint32_t number
        cdef uint32_t place
        cdef set used = set()
        acquire(&self.table.head.lock)
        for number in range(1, self.table.head.used + 1):
            if entry_at(&self.table, number).is_used:
                used.add(entry_at(&self.table, number).member)
        leave(&self.table.head.lock)
        for place in range(NAME_LIMIT):
            if place not in used and self.name_at(place) not in keep:
                return place
        return NAME_LIMIT

    def name_at(self, uint32_t place):
        """The name at that place, "" for none."""
        if place >= NAME_LIMIT:
            return ""
        return (<char *>(self.table.names + place * NAME_BYTES))[:NAME_BYTES].split(b"\0", 1)[0].decode(errors="replace")

    def names(self):
        """All names, by place."""
        cdef list found = []
        while len(found) < NAME_LIMIT and self.table.names[len(found) * NAME_BYTES]:
            found.append(self.name_at(len(found)))
        return found

    # --- entries ---

    def find(self, bytes key not None, uint64_t now_ms):
        """Name of the member of that key, or None. The entry becomes the newest."""
        cdef int64_t place = table_find(&self.table, key, <uint32_t>len(key), now_ms)
        return None if place < 0 else self.name_at(<uint32_t>place)

    def store(self, bytes key not None, str name not None, uint64_t now_ms, keep=()):
        """As the engine does it. False when there is no room for the name."""
        cdef int64_t place = self.name_place(name, keep)
        if place < 0:
            return False
        table_store(&self.table, key, <uint32_t>len(key), <uint32_t>place, now_ms)
        return True

    def learn(self, bytes key not None, uint32_t place, uint64_t now_ms):
        """What a peer or an earlier process knew: it is not announced. `place` is from `name_place`."""
        cdef uint32_t length = <uint32_t>len(key)
        cdef int changed = 0
        if length > self.table.head.key_limit:
            length = self.table.head.key_limit
        acquire(&self.table.head.lock)
        put(&self.table, key, length, place, now_ms, &changed)
        leave(&self.table.head.lock)

    def updates_after(self, uint32_t last, uint32_t limit):
        """(update, key, place) of what was announced after update `last`, in that order, and the update to go on from.

        (None, 0) when the ring does not reach back so far: then everything has to be told.
        """
        cdef TableHead *head = self.table.head
        cdef list found = []
        cdef TableEntry *entry
        cdef uint32_t number
        acquire(&head.lock)
        if head.update - last > head.ring_mask:
            leave(&head.lock)
            return None, 0
        while last != head.update and len(found) < limit:
            last += 1
            number = self.table.ring[last & head.ring_mask]
            if number == 0 or last == 0:
                continue
            entry = entry_at(&self.table, number)
            if entry.is_used and entry.update == last:
                found.append((last, entry.key[:entry.key_length], entry.member))
        leave(&head.lock)
        return found, last

    def scan(self, uint32_t start, uint32_t limit):
        """(update, key, place) of up to `limit` entries from place `start` on, and where to go on; 0 at the end."""
        cdef TableHead *head = self.table.head
        cdef list found = []
        cdef TableEntry *entry
        acquire(&head.lock)
        while start < head.used and len(found) < limit:
            start += 1
            entry = entry_at(&self.table, start)
            if entry.is_used:
                found.append((entry.update, entry.key[:entry.key_length], entry.member))
        if start >= head.used:
            start = 0
        leave(&head.lock)
        return found, start

    def entries(self):
        """(key, name, touched_ms) of all entries, the one unused for longest first; without the lock.

        For another process than the one that serves: an entry that changes meanwhile is left out.
        """
        cdef list found = []
        cdef TableEntry *entry
        cdef uint32_t number
        cdef uint32_t version
        cdef list names = self.names()
        for number in range(1, min(self.table.head.used, self.table.head.size) + 1):
            entry = entry_at(&self.table, number)
            version = (<volatile_u32 *>&entry.version)[0]
            fence()
            if version & 1 or not entry.is_used or entry.key_length > self.table.head.key_limit:
                continue
            item = (entry.key[:entry.key_length], entry.member, entry.touched_ms)
            fence()
            if (<volatile_u32 *>&entry.version)[0] == version and item[1] < len(names):
                found.append((item[0], names[item[1]], item[2]))
        found.sort(key=_touched)
        return found

    def hold_lock(self):
        """Leaves the lock taken, as a process that is killed would; for tests."""
        acquire(&self.table.head.lock)

    def set_announces(self, bint announces):
        """Whether hits are announced, for peers to keep the entry too."""
        self.table.head.announces = announces

    @property
    def kind(self):
        return self.table.head.kind

    @property
    def size(self):
        return self.table.head.size

    @property
    def key_limit(self):
        return self.table.head.key_limit

    @property
    def update(self):
        """Number of the last update."""
        return self.table.head.update

    @property
    def evictions(self):
        return self.table.head.evictions

    @property
    def changes(self):
        return self.table.head.changes

    def __len__(self):
        return self.table.head.count


def _touched(item):
    return item[2]


cdef void rebuild(StickTable *table) noexcept nogil:
    """Chains, order of use and free list from the entries alone."""
    cdef TableHead *head = table.head
    cdef TableEntry *entry
    cdef uint32_t number
    cdef uint32_t *bucket
    if head.used > head.size:
        head.used = head.size
    memset(table.buckets, 0, (<uint64_t>head.bucket_mask + 1) * 4)
    head.free = head.newest = head.oldest = head.count = 0
    for number in range(1, head.used + 1):
        entry = entry_at(table, number)
        if entry.version & 1:
            entry.version += 1
            entry.is_used = 0
        if entry.is_used and (entry.key_length > head.key_limit or look_up(table, entry.key, entry.key_length)):
            entry.is_used = 0
        if not entry.is_used:
            entry.update = 0
            entry.next = head.free
            head.free = number
            continue
        bucket = bucket_of(table, entry.key, entry.key_length)
        entry.next = bucket[0]
        bucket[0] = number
        link_by_age(table, number)
        head.count += 1


cdef void link_by_age(StickTable *table, uint32_t number) noexcept nogil:
    """Into the order of use. Entries are mostly taken in that order, so the place is near the newest."""
    cdef TableEntry *entry = entry_at(table, number)
    cdef uint32_t newer = 0
    cdef uint32_t older = table.head.newest
    cdef uint32_t steps = 0
    while older and entry_at(table, older).touched_ms > entry.touched_ms and steps < 1000:
        newer = older
        older = entry_at(table, older).older
        steps += 1
    entry.newer = newer
    entry.older = older
    if newer:
        entry_at(table, newer).older = number
    else:
        table.head.newest = number
    if older:
        entry_at(table, older).newer = number
    else:
        table.head.oldest = number
