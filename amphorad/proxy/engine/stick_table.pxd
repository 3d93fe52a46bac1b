"""A stick table in shared memory: which member a client was last sent to (Octavia contract section 4.10.2).

    head                one page: lock, sizes, ends of the lists, update sequence
    names               NAME_LIMIT names of NAME_BYTES: entries refer to members by their place here, so that a changed set
                        of members keeps the entries of those that stay
    buckets             hash chains
    ring                the entry that got update number n stands at n modulo its length: what peers are sent
    entries             `size` of them, taken one after the other, so that memory is touched on demand

Links count entries from 1; 0 is none. Every change is made under `lock`, a word that a process killed meanwhile leaves
taken: `Table.recover` then builds lists and chains again from the entries. An entry that was being written at that moment
(odd `version`) is dropped.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    TABLE_HEAD_BYTES = 4096
    NAME_BYTES = 96
    NAME_LIMIT = 4096
    KEY_ADDRESS = 1             # 16 bytes; IPv4 as v4-mapped
    KEY_STRING = 2
    REFRESH_S = 5               # a hit is announced to peers at most that often

cdef struct TableHead:
    uint32_t lock
    uint32_t kind               # KEY_ADDRESS or KEY_STRING; 0: no table
    uint32_t key_limit          # longest key
    uint32_t entry_bytes
    uint32_t size               # most entries
    uint32_t bucket_mask
    uint32_t ring_mask
    uint32_t used               # entries ever taken
    uint32_t free               # first of those given back, linked by `next`
    uint32_t newest
    uint32_t oldest
    uint32_t count
    uint32_t update             # number of the last update made here
    uint32_t announces          # 1: there are peers, hits are worth an update
    uint64_t seed
    uint64_t expire_ms          # unused entries are forgotten after it; 0 = never
    uint64_t evictions
    uint64_t changes            # grows with every change of what an entry says

cdef struct TableEntry:
    uint32_t next
    uint32_t newer
    uint32_t older
    uint32_t version            # odd while it is written
    uint32_t member             # place of the name
    uint32_t update             # number of its last update; 0: learned from a peer
    uint32_t announced_s
    uint16_t key_length
    uint8_t is_used
    uint8_t unused
    uint64_t touched_ms
    uint8_t key[8]              # key_limit of them

cdef struct StickTable:         # where the parts are in this process
    TableHead *head
    uint8_t *names
    uint32_t *buckets
    uint32_t *ring
    uint8_t *entries

cdef uint64_t hash_key(uint64_t seed, const uint8_t *key, uint32_t length) noexcept nogil

# Place of the member's name, or -1. A found entry becomes the newest.
cdef int64_t table_find(StickTable *table, const uint8_t *key, uint32_t length, uint64_t now_ms) noexcept nogil

# Remembers the member for that key; the entry unused for longest goes when the table is full. Keys are cut at key_limit.
cdef void table_store(StickTable *table, const uint8_t *key, uint32_t length, uint32_t member,
                      uint64_t now_ms) noexcept nogil

cdef class Table:
    cdef StickTable table
    cdef uint8_t[::1] memory    # keeps the mapping
    cdef dict places            # of the names, once they have been looked for
    cdef locate(self)
    cdef uint32_t recycle_name(self, keep)
