"""Cookies in heads: finding one, taking one out of a request, and whether a response may be cached. See `cookies.pyx`."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from amphorad.proxy.wire.http1 cimport Head

cdef struct CookieSpan:         # bytes of a head
    const uint8_t *start
    const uint8_t *end

cdef struct CookieWalk:         # zero bytes but for `head`, `data` and the name = at the begin
    const uint8_t *data
    const Head *head
    const uint8_t *name
    uint32_t name_length
    uint32_t field              # next one to look at
    const uint8_t *at           # in the present field; NULL: take the next field
    const uint8_t *end

# Every value of the cookie in the Cookie fields, in order. 0 after the last.
cdef int next_cookie_value(CookieWalk *walk, CookieSpan *value) noexcept nogil

# Takes the cookie out of every Cookie field; other cookies lose the blanks around their "=". A field that holds nothing
# else is dropped.
cdef void remove_cookie(uint8_t *data, Head *head, const uint8_t *name, uint32_t name_length) noexcept nogil

# Drops every Set-Cookie field of that name. 1 when there was one.
cdef int remove_set_cookie(uint8_t *data, Head *head, const uint8_t *name, uint32_t name_length) noexcept nogil

# The last value of the cookie, as `req.cook` and `res.cook` have it (of a response: in Set-Cookie). 0: there is none.
cdef int last_cookie_value(const uint8_t *data, const Head *head, int is_response, const uint8_t *name,
                           uint32_t name_length, CookieSpan *value) noexcept nogil

# Whether a cache in front might keep this response to a request of `method`.
cdef int is_cacheable(const uint8_t *data, const Head *head, uint8_t method) noexcept nogil
