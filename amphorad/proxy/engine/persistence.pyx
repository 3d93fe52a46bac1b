# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Session persistence (Octavia contract section 4.10.2): it decides before the picker.

A member is used for its clients while it is up, also when it drains (weight 0) or is a backup; not when it is DOWN or in
MAINT, or gone: then another one is picked, and the entry or the cookie rewritten. How it goes on after a connection that
failed is `session_retry`'s business.

One difference from HAProxy, on purpose: an application cookie without a value tells nobody apart, so it is neither learned
nor looked up (HAProxy sends all such clients to one member).
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from amphorad.proxy.engine.runtime cimport (
    HTTP_COOKIE_PERSISTENCE, NO_PLACE, PERSISTED, SOURCE_PERSISTENCE, APP_COOKIE_PERSISTENCE, PersistentMember, load_view,
)
from amphorad.proxy.engine.stick_table cimport hash_key, table_find, table_store
from amphorad.proxy.wire.cookies cimport (
    CookieSpan, CookieWalk, is_cacheable, last_cookie_value, next_cookie_value, remove_cookie, remove_set_cookie,
)


cdef inline uint64_t table_now(const Session *session) noexcept nogil:
    return session.client.thread.now_us // 1000


cdef Member *member_of_place(PoolView *view, int64_t place) noexcept nogil:
    """The member of that name, if it may be used now."""
    cdef uint32_t number
    if place < 0 or place >= view.place_count:
        return NULL
    number = view.member_of_place[place]
    if number == 0 or not view.persistent[number - 1].sticks:
        return NULL
    return view.members[number - 1]


cdef uint32_t member_index(const PoolView *view, const Member *member) noexcept nogil:
    """Its place in the view; `member_count` when it is not there any more."""
    cdef uint32_t index
    for index in range(view.member_count):
        if view.members[index] == member:
            return index
    return view.member_count


# --- the client's address ---

cdef void source_key(const Session *session, uint8_t *key) noexcept nogil:
    """16 bytes; an IPv4 address as v4-mapped (RFC 4291 section 2.5.5.2)."""
    if session.address_length == 4:
        memset(key, 0, 10)
        key[10] = key[11] = 0xff
        memcpy(key + 12, session.address, 4)
    else:
        memcpy(key, session.address, 16)


cdef Member *persistence_source(Session *session, PoolView *view) noexcept nogil:
    cdef uint8_t[16] key
    source_key(session, key)
    return member_of_place(view, table_find(view.table, key, 16, table_now(session)))


cdef void persistence_store(Session *session) noexcept nogil:
    cdef PoolView *view = load_view(&session.pool.view)
    cdef uint8_t[16] key
    cdef uint32_t index
    if view == NULL or view.persistence != SOURCE_PERSISTENCE:
        return
    index = member_index(view, session.member)
    if index < view.member_count and view.persistent[index].place != NO_PLACE:
        source_key(session, key)
        table_store(view.table, key, 16, view.persistent[index].place, table_now(session))


# --- cookies ---

cdef Member *member_of_cookie(PoolView *view, const CookieSpan *value, int *is_known) noexcept nogil:
    """The first usable member of that cookie value. `is_known`: there is one, whether usable or not."""
    cdef uint32_t length = <uint32_t>(value.end - value.start)
    cdef uint32_t slot = <uint32_t>hash_key(0, value.start, length) & view.cookie_mask
    cdef const PersistentMember *member
    while view.cookie_slots[slot]:
        member = &view.persistent[view.cookie_slots[slot] - 1]
        if member.cookie_length == length and memcmp(member.cookie, value.start, length) == 0:
            is_known[0] = 1
            if member.sticks:
                return view.members[view.cookie_slots[slot] - 1]
        slot = (slot + 1) & view.cookie_mask
    return NULL


cdef void read_own_cookie(Session *session, PoolView *view, const uint8_t *data, Head *head) noexcept nogil:
    """Finds the wanted member, and what the traffic log says of it (HAProxy configuration manual 8.5)."""
    cdef CookieWalk walk
    cdef CookieSpan value
    cdef const uint8_t *bar
    cdef int is_known
    cdef Member *member
    memset(&walk, 0, sizeof(CookieWalk))
    walk.data = data
    walk.head = head
    walk.name = <const uint8_t *>view.cookie_name
    walk.name_length = view.cookie_name_length
    session.cookie_in = c'N'
    while next_cookie_value(&walk, &value):
        bar = value.start
        while bar < value.end and bar[0] != c'|':  # a date may follow, which Octavia never asks for
            bar += 1
        value.end = bar
        is_known = 0
        member = NULL
        if session.wanted == NULL and value.end > value.start:
            member = member_of_cookie(view, &value, &is_known)
        if member != NULL:
            session.wanted = member
            session.cookie_in = c'V'
        elif is_known:
            session.cookie_in = c'D'
        elif session.cookie_in != c'D' and session.wanted == NULL:
            session.cookie_in = c'I'
    if walk.end != NULL:  # there is a Cookie field
        remove_cookie(<uint8_t *>data, head, walk.name, walk.name_length)


cdef void persistence_request(Session *session, PoolView *view, uint8_t *data, Head *head) noexcept nogil:
    cdef CookieSpan value
    if view.persistence == HTTP_COOKIE_PERSISTENCE:
        session.cookie_out = c'N'
        read_own_cookie(session, view, data, head)
    elif view.persistence == APP_COOKIE_PERSISTENCE:
        if (last_cookie_value(data, head, 0, <const uint8_t *>view.cookie_name, view.cookie_name_length, &value)
                and value.end > value.start):
            session.wanted = member_of_place(
                view, table_find(view.table, value.start, <uint32_t>(value.end - value.start), table_now(session))
            )
    elif session.member_conn != NULL:  # bound to this client: is it bound to the right member?
        session.wanted = persistence_source(session, view)


cdef uint32_t append_text(uint8_t *out, uint32_t used, const char *text, uint32_t length) noexcept nogil:
    memcpy(out + used, text, length)
    return used + length


cdef uint32_t insert_cookie(Session *session, PoolView *view, const uint8_t *data, const Head *head,
                            uint8_t *out) noexcept nogil:
    cdef uint32_t index = member_index(view, session.member)
    cdef const PersistentMember *member
    cdef uint32_t used
    if index == view.member_count:
        return 0
    member = &view.persistent[index]
    session.cookie_out = c'I'
    used = append_text(out, 0, b"set-cookie: ", 12)
    used = append_text(out, used, view.cookie_name, view.cookie_name_length)
    out[used] = c'='
    used += 1
    if member.cookie_length:
        used = append_text(out, used, member.cookie, member.cookie_length)
    else:
        used = append_text(out, used, b"; Expires=Thu, 01-Jan-1970 00:00:01 GMT", 39)
    used = append_text(out, used, b"; path=/", 8)
    if view.cookie_attributes_length:
        used = append_text(out, used, view.cookie_attributes, view.cookie_attributes_length)
    used = append_text(out, used, b"\r\n", 2)
    if is_cacheable(data, head, session.method):
        used = append_text(out, used, b"cache-control: private\r\n", 24)
    return used


cdef uint32_t persistence_response(Session *session, PoolView *view, uint8_t *data, Head *head,
                                   uint8_t *out) noexcept nogil:
    cdef CookieSpan value
    cdef uint32_t index
    if session.member == NULL:
        return 0
    if view.persistence == HTTP_COOKIE_PERSISTENCE:
        if remove_set_cookie(data, head, <const uint8_t *>view.cookie_name, view.cookie_name_length):
            session.cookie_out = c'D'
        if not session.flags & PERSISTED:
            return insert_cookie(session, view, data, head, out)
    elif view.persistence == APP_COOKIE_PERSISTENCE:
        if (last_cookie_value(data, head, 1, <const uint8_t *>view.cookie_name, view.cookie_name_length, &value)
                and value.end > value.start):
            index = member_index(view, session.member)
            if index < view.member_count and view.persistent[index].place != NO_PLACE:
                table_store(view.table, value.start, <uint32_t>(value.end - value.start), view.persistent[index].place,
                            table_now(session))
    return 0
