# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Cookies of requests and responses for persistence (HAProxy configuration manual 4.2, `cookie`; 7.3.6, `req.cook`).

No I/O and no allocation; work is linear in the head. A Cookie field is a list of pairs, divided by ";" or "," outside
double quotes (a backslash in quotes hides the next character). Names that start with "$" are attributes of the pair before
them and go with it; a pair without "=" is no cookie, and stays. All of this is what HAProxy 2.6 does, byte for byte, so
that members see the same Cookie field from either.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy, memmove, memset

from amphorad.proxy.wire.grammar cimport is_blank
from amphorad.proxy.wire.http1 cimport (
    CACHE_CONTROL, COMPLETE, COOKIE, GET, HEAD, HEAD_LIMIT, OPTIONS, SET_COOKIE, SHORTENED, TRACE, Field, parse_request,
    parse_response, write_head,
)

cdef enum:
    COMMA = 44
    SEMICOLON = 59
    EQUALS = 61
    QUOTE = 34
    BACKSLASH = 92
    DOLLAR = 36

cdef enum PairKind:
    BARE = 0                    # without "="
    ATTRIBUTE                   # "$..."
    PAIR

cdef struct Pair:
    const uint8_t *name
    const uint8_t *name_end
    const uint8_t *equals
    const uint8_t *value
    const uint8_t *value_end
    const uint8_t *next         # the delimiter behind it, or the end
    PairKind kind


cdef const uint8_t *value_end(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """The next delimiter outside double quotes, or `end`."""
    cdef int quoted = 0
    while at < end:
        if quoted:
            if at[0] == BACKSLASH:
                at += 1
            elif at[0] == QUOTE:
                quoted = 0
        elif at[0] == QUOTE:
            quoted = 1
        elif at[0] == COMMA or at[0] == SEMICOLON:
            return at
        at += 1
    return end


cdef void read_pair(const uint8_t *at, const uint8_t *end, int is_list, Pair *pair) noexcept nogil:
    """The pair that starts at `at`, behind a delimiter. In Set-Cookie (`is_list` 0) a comma ends no name."""
    while at < end and is_blank(at[0]):
        at += 1
    pair.name = pair.name_end = at
    while at < end and at[0] != EQUALS and at[0] != SEMICOLON and not (is_list and at[0] == COMMA):
        at += 1
        if not is_blank((at - 1)[0]):
            pair.name_end = at
    pair.equals = pair.value = pair.value_end = pair.next = at
    pair.kind = BARE
    if at < end and at[0] == EQUALS:
        at += 1
        while at < end and is_blank(at[0]):
            at += 1
        pair.kind = PAIR
        pair.value = at
        pair.next = pair.value_end = value_end(at, end)
        while pair.value_end > at and is_blank((pair.value_end - 1)[0]):
            pair.value_end -= 1
    if pair.name < end and pair.name[0] == DOLLAR:
        pair.kind = ATTRIBUTE


cdef inline int is_named(const Pair *pair, const uint8_t *name, uint32_t length) noexcept nogil:
    return pair.kind == PAIR and pair.name_end - pair.name == <int>length and memcmp(pair.name, name, length) == 0


# --- requests ---

cdef int next_cookie_value(CookieWalk *walk, CookieSpan *value) noexcept nogil:
    cdef const Field *field
    cdef Pair pair
    while True:
        if walk.at == NULL:
            while walk.field < walk.head.field_count and walk.head.fields[walk.field].id != COOKIE:
                walk.field += 1
            if walk.field >= walk.head.field_count:
                return 0
            field = &walk.head.fields[walk.field]
            walk.field += 1
            walk.at = walk.data + field.value
            walk.end = walk.at + field.value_length
        while walk.at != NULL:
            read_pair(walk.at, walk.end, 1, &pair)
            walk.at = pair.next + 1 if pair.next < walk.end else NULL
            if is_named(&pair, walk.name, walk.name_length):
                value.start = pair.value
                value.end = pair.value_end
                return 1


cdef void remove_cookie(uint8_t *data, Head *head, const uint8_t *name, uint32_t name_length) noexcept nogil:
    cdef uint32_t index
    cdef Field *field
    cdef uint32_t length
    for index in range(head.field_count):
        field = &head.fields[index]
        if field.id != COOKIE or field.drop or field.value_length == 0:
            continue
        length = without_cookie(data + field.value, field.value_length, name, name_length)
        if length == field.value_length:
            continue
        field.value_length = <uint16_t>length
        field.drop = SHORTENED if length else 1


cdef uint8_t *append(uint8_t *out, const uint8_t *start, const uint8_t *end) noexcept nogil:
    memmove(out, start, end - start)
    return out + (end - start)


cdef uint32_t without_cookie(uint8_t *value, uint32_t length, const uint8_t *name, uint32_t name_length) noexcept nogil:
    """Takes the cookie out of one field's value, in place: what is written never overtakes what is read."""
    cdef const uint8_t *at = value
    cdef const uint8_t *end = value + length
    cdef const uint8_t *begin               # of the text to keep: behind the delimiter
    cdef uint8_t *out = value
    cdef Pair pair
    cdef uint8_t delimiter = 0              # in front of the present pair; 0: it is the first
    cdef int removing = 0                   # pairs at `out` are being left out
    cdef int keeps = 0                      # a pair was kept that is no attribute
    while at <= end:
        read_pair(at, end, 1, &pair)
        if pair.kind == ATTRIBUTE and removing:
            pass
        elif is_named(&pair, name, name_length):
            removing = 1
        else:
            begin = at
            if removing:
                removing = 0
                begin = pair.name
                if out > value:
                    while out > value and is_blank((out - 1)[0]):
                        out -= 1
                    out[0] = delimiter
                    out[1] = 32
                    out += 2
            elif delimiter:
                out[0] = delimiter
                out += 1
            if pair.kind == PAIR:
                out = append(out, begin, pair.name_end)
                out[0] = EQUALS
                out = append(out + 1, pair.value, pair.next)
            else:
                out = append(out, begin, pair.next)
            keeps |= pair.kind != ATTRIBUTE
        if pair.next >= end:
            break
        delimiter = pair.next[0]
        at = pair.next + 1
    if removing and not keeps:
        return 0
    return <uint32_t>(out - value)


# --- responses ---

cdef int remove_set_cookie(uint8_t *data, Head *head, const uint8_t *name, uint32_t name_length) noexcept nogil:
    cdef uint32_t index
    cdef Field *field
    cdef Pair pair
    cdef uint8_t *out
    cdef const uint8_t *end
    cdef int found = 0
    for index in range(head.field_count):
        field = &head.fields[index]
        if field.id != SET_COOKIE or field.drop:
            continue
        end = data + field.value + field.value_length
        read_pair(data + field.value, end, 0, &pair)
        if pair.equals == end or pair.equals[0] != EQUALS:
            continue
        if pair.name_end - pair.name == <int>name_length and memcmp(pair.name, name, name_length) == 0:
            field.drop = 1
            found = 1
        elif pair.name_end != pair.equals or pair.value > pair.equals + 1:
            out = append(<uint8_t *>pair.name_end, b"=", <const uint8_t *>b"=" + 1)
            out = append(out, pair.value, end)
            field.value_length = <uint16_t>(out - (data + field.value))
            field.drop = SHORTENED
    return found


cdef int last_cookie_value(const uint8_t *data, const Head *head, int is_response, const uint8_t *name,
                           uint32_t name_length, CookieSpan *value) noexcept nogil:
    """Fields are cut at commas first, as the manual's 7.3.6 has it for all fields; of a Set-Cookie element the first pair
    with a "=" counts."""
    cdef uint32_t index
    cdef const Field *field
    cdef const uint8_t *at
    cdef const uint8_t *end
    cdef const uint8_t *stop
    cdef Pair pair
    cdef int wanted = SET_COOKIE if is_response else COOKIE
    cdef int found = 0
    for index in range(head.field_count):
        field = &head.fields[index]
        if field.id != wanted:
            continue
        at = data + field.value
        end = at + field.value_length
        while at <= end:
            stop = element_end(at, end)
            while True:
                read_pair(at, stop, not is_response, &pair)
                if is_named(&pair, name, name_length):
                    value.start = pair.value
                    value.end = pair.value_end
                    found = 1
                if pair.next >= stop or is_response and pair.kind == PAIR:
                    break
                at = pair.next + 1
            at = stop + 1
    return found


cdef const uint8_t *element_end(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """The next comma outside double quotes, or `end`."""
    at = value_end(at, end)
    while at < end and at[0] != COMMA:
        at = value_end(at + 1, end)
    return at


cdef inline int starts_with_word(const uint8_t *at, const uint8_t *end, const char *word, uint32_t length) noexcept nogil:
    """Whether `word`, which is in lower case, stands at `at` in any letter case."""
    cdef uint32_t index
    if end - at < <int>length:
        return 0
    for index in range(length):
        if (at[index] | 32 if 65 <= at[index] <= 90 else at[index]) != <uint8_t>word[index]:
            return 0
    return 1


cdef inline int is_word(const uint8_t *at, const uint8_t *end, const char *word, uint32_t length) noexcept nogil:
    return end - at == <int>length and starts_with_word(at, end, word, length)


cdef inline int is_field(const uint8_t *data, const Field *field, const char *name, uint32_t length) noexcept nogil:
    return field.name_length == length and memcmp(data + field.name, name, length) == 0


cdef int is_cacheable(const uint8_t *data, const Head *head, uint8_t method) noexcept nogil:
    """HAProxy's reading of RFC 9111 section 3, which decides on `nocache`."""
    cdef uint32_t index
    cdef const Field *field
    cdef int cacheable = method in (GET, HEAD, OPTIONS, TRACE)
    cdef int is_fresh = 0
    cdef int has_validator = 0
    cdef int no_age = 0
    cdef int saw_pragma = 0
    if head.status not in (200, 203, 204, 206, 300, 301, 404, 405, 410, 414, 501):
        cacheable = 0
    for index in range(head.field_count):
        field = &head.fields[index]
        if field.id == CACHE_CONTROL:
            continue
        if is_field(data, field, b"pragma", 6):
            if not saw_pragma and is_word(data + field.value, data + field.value + field.value_length, b"no-cache", 8):
                return 0
            saw_pragma = 1
        elif is_field(data, field, b"expires", 7):
            has_validator = 1
        elif is_field(data, field, b"etag", 4) or is_field(data, field, b"last-modified", 13):
            has_validator = 1
    for index in range(head.field_count):
        if head.fields[index].id == CACHE_CONTROL:
            read_directives(data, &head.fields[index], &cacheable, &is_fresh, &no_age)
    return cacheable and not no_age and (is_fresh or has_validator)


cdef void read_directives(const uint8_t *data, const Field *field, int *cacheable, int *is_fresh,
                          int *no_age) noexcept nogil:
    cdef const uint8_t *at = data + field.value
    cdef const uint8_t *end = at + field.value_length
    cdef const uint8_t *stop
    cdef const uint8_t *last
    while at <= end:
        while at < end and is_blank(at[0]):
            at += 1
        stop = last = element_end(at, end)
        while last > at and is_blank((last - 1)[0]):
            last -= 1
        if is_word(at, last, b"public", 6):
            cacheable[0] = 1
        elif is_word(at, last, b"max-age=0", 9):
            no_age[0] = 1
        elif (is_word(at, last, b"private", 7) or is_word(at, last, b"no-store", 8)
                or is_word(at, last, b"no-cache", 8) or is_word(at, last, b"s-maxage=0", 10)):
            cacheable[0] = 0  # not for private="..." and no-cache="...", which are about single fields
        elif starts_with_word(at, last, b"s-maxage", 8):
            is_fresh[0] = 1
            no_age[0] = 0
        elif starts_with_word(at, last, b"max-age", 7):
            is_fresh[0] = 1
        at = stop + 1


# --- for tests and fuzzers ---

cdef class CookieHead:
    """A head in a buffer of its own, for the functions above."""

    cdef bytearray buffer
    cdef Head head
    cdef readonly bint is_request

    def __init__(self, bytes data not None, bint is_request=True):
        cdef uint32_t scanned = 0
        cdef uint8_t[::1] view
        cdef int result
        self.buffer = bytearray(data)
        self.is_request = is_request
        view = self.buffer
        if is_request:
            result = parse_request(&view[0], <uint32_t>len(data), HEAD_LIMIT, &scanned, &self.head)
        else:
            result = parse_response(&view[0], <uint32_t>len(data), HEAD_LIMIT, &scanned, GET, &self.head)
        if result != COMPLETE or self.head.skipped:
            raise ValueError(f"not a head: {result}")

    def values(self, bytes name not None):
        """What `next_cookie_value` finds."""
        cdef CookieWalk walk
        cdef CookieSpan span
        cdef uint8_t[::1] view = self.buffer
        cdef list found = []
        memset(&walk, 0, sizeof(CookieWalk))
        walk.data = &view[0]
        walk.head = &self.head
        walk.name = name
        walk.name_length = <uint32_t>len(name)
        while next_cookie_value(&walk, &span):
            found.append((<const char *>span.start)[:span.end - span.start])
        return found

    def last(self, bytes name not None):
        cdef CookieSpan span
        cdef uint8_t[::1] view = self.buffer
        if not last_cookie_value(&view[0], &self.head, not self.is_request, name, <uint32_t>len(name), &span):
            return None
        return (<const char *>span.start)[:span.end - span.start]

    def remove(self, bytes name not None):
        """The head without that cookie, as it is written."""
        cdef uint8_t[::1] view = self.buffer
        cdef bytearray out = bytearray(self.head.length + 16)
        cdef uint8_t[::1] out_view = out
        if self.is_request:
            remove_cookie(&view[0], &self.head, name, <uint32_t>len(name))
        else:
            remove_set_cookie(&view[0], &self.head, name, <uint32_t>len(name))
        written = write_head(&view[0], &self.head, self.is_request, NULL, 0, &out_view[0], <uint32_t>len(out))
        return bytes(out[:written])

    def cacheable(self, int method=GET):
        cdef uint8_t[::1] view = self.buffer
        return bool(is_cacheable(&view[0], &self.head, <uint8_t>method))
