"""What an algorithm is for the engine: a `Picker`, called with the interpreter lock released.

A picker is built from the usable members of one pool and thrown away when they change. What must survive (in-flight
counts, round-robin credit and cursor) lives outside it, on the board, shared by all threads and by the pickers that
follow. `pick` chooses an index into the members it was built from, adds one to that member's `in_flight`, and is exact
over all threads: it holds `shared.lock` while it reads and changes the shared part.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t


cdef struct MemberLoad:         # one member; on the board
    int64_t in_flight           # sessions or exchanges now at this member
    int64_t credit              # smooth weighted round robin


cdef struct PickerShared:       # one pool; on the board
    uint32_t lock               # spin lock, 0 = free
    uint32_t cursor             # rotation of round robin and of ties


cdef struct PickKey:            # what the session knows
    const uint8_t *address      # client address, network order; 4 or 16 bytes
    uint32_t address_length


cdef struct Picker:
    int32_t (*pick)(Picker *self, const PickKey *key) noexcept nogil   # index, or -1 when no member is usable
    void (*release)(Picker *self) noexcept nogil                        # frees `self` and its table; interpreter lock may be held or not
    uint32_t count
    uint32_t *weights           # owned; every weight >= 1
    MemberLoad **loads          # owned array of borrowed pointers
    PickerShared *shared        # borrowed
    uint32_t *table             # source_ip_hash and maglev: slot -> index; else NULL
    uint32_t table_size
    void *python                # an owned PyObject* for a picker written in Python; else NULL
    int64_t total_weight        # of all members
    uint32_t heaviest           # the first member of the highest weight


cdef Picker *build_picker(str name, uint32_t count, const uint32_t *weights, MemberLoad **loads,
                          PickerShared *shared, object member_names) except NULL

# Frees a lock whose holder was killed. Only for a data plane that has just taken the board over and has no picker yet.
cdef void reset_shared(PickerShared *shared) noexcept nogil
