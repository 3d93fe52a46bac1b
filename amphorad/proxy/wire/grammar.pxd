"""Byte classes and small value grammars that the HTTP/1 parser is made of; all inline, no module behind it.

Everything here takes a pointer and a length or an end, reads nothing outside, and says yes or no. Grammar: RFC 9110
section 5.6, RFC 3986 section 3.2 (narrowed as the functions say).
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp

cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>
    #include <string.h>
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif

    /* Token characters (RFC 9110 5.6.2) mapped to lower case; 0 for every other byte. */
    static const uint8_t amphorad_lower[256] = {
          0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
          0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
          0,  33,   0,  35,  36,  37,  38,  39,   0,   0,  42,  43,   0,  45,  46,   0,
         48,  49,  50,  51,  52,  53,  54,  55,  56,  57,   0,   0,   0,   0,   0,   0,
          0,  97,  98,  99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111,
        112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122,   0,   0,   0,  94,  95,
         96,  97,  98,  99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111,
        112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122,   0, 124,   0, 126,   0,
    };

    static inline int amphorad_is_value(uint8_t c) { return (c >= 0x20 && c != 0x7f) || c == 9; }
    static inline int amphorad_is_target(uint8_t c) { return c > 0x20 && c < 0x7f && c != '#'; }

    /* First byte that may not stand in a field value: a control character other than HTAB. `end` if there is none. */
    static inline uint8_t *amphorad_scan_value(uint8_t *p, const uint8_t *end) {
    #if defined(__SSE2__)
        const __m128i low = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8(9), del = _mm_set1_epi8(0x7f);
        while (end - p >= 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)p);
            __m128i bad = _mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(v, low), v), _mm_cmpeq_epi8(v, del));
            int mask = _mm_movemask_epi8(_mm_andnot_si128(_mm_cmpeq_epi8(v, tab), bad));
            if (mask) return p + __builtin_ctz((unsigned)mask);
            p += 16;
        }
    #else
        while (end - p >= 8) {  /* eight at once; a hit, true or false (HTAB), is looked at byte by byte */
            uint64_t v, d;
            memcpy(&v, p, 8);
            d = v ^ 0x7f7f7f7f7f7f7f7fULL;
            if ((((v - 0x2020202020202020ULL) & ~v) | ((d - 0x0101010101010101ULL) & ~d)) & 0x8080808080808080ULL) {
                int i;
                for (i = 0; i < 8; i++) if (!amphorad_is_value(p[i])) return p + i;
            }
            p += 8;
        }
    #endif
        while (p < end && amphorad_is_value(*p)) p++;
        return p;
    }

    /* First byte that may not stand in a request target: '#' and all but visible ASCII. `end` if there is none. */
    static inline uint8_t *amphorad_scan_target(uint8_t *p, const uint8_t *end) {
    #if defined(__SSE2__)
        const __m128i low = _mm_set1_epi8(0x20), del = _mm_set1_epi8(0x7f), hash = _mm_set1_epi8('#');
        while (end - p >= 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)p);
            /* signed compare: 0x21..0x7f are the bytes above 0x20, 0x80..0xff count as negative */
            __m128i good = _mm_andnot_si128(_mm_or_si128(_mm_cmpeq_epi8(v, del), _mm_cmpeq_epi8(v, hash)),
                                            _mm_cmpgt_epi8(v, low));
            unsigned mask = (unsigned)_mm_movemask_epi8(good) ^ 0xffffu;
            if (mask) return p + __builtin_ctz(mask);
            p += 16;
        }
    #endif
        while (p < end && amphorad_is_target(*p)) p++;
        return p;
    }
    """
    const uint8_t amphorad_lower[256]
    bint amphorad_is_value(uint8_t c) noexcept nogil
    bint amphorad_is_target(uint8_t c) noexcept nogil
    uint8_t *amphorad_scan_value(uint8_t *p, const uint8_t *end) noexcept nogil
    uint8_t *amphorad_scan_target(uint8_t *p, const uint8_t *end) noexcept nogil


cdef inline bint is_blank(uint8_t c) noexcept nogil:
    return c == 32 or c == 9


cdef inline bint is_digit(uint8_t c) noexcept nogil:
    return 48 <= c <= 57


cdef inline int hex_value(uint8_t c) noexcept nogil:
    """0..15, or -1."""
    if 48 <= c <= 57:
        return c - 48
    c |= 32
    if 97 <= c <= 102:
        return c - 87
    return -1


cdef inline bint equals_token(const uint8_t *p, uint32_t length, const char *lower,
                              uint32_t lower_length) noexcept nogil:
    """Case-insensitive comparison with a lower-case token."""
    cdef uint32_t i
    if length != lower_length:
        return False
    for i in range(length):
        if amphorad_lower[p[i]] != <uint8_t>lower[i]:
            return False
    return True


cdef inline bint has_ipv4(const uint8_t *p, uint32_t length) noexcept nogil:
    """dec-octet "." dec-octet "." dec-octet "." dec-octet, no leading zeros (RFC 3986 3.2.2)."""
    cdef uint32_t i = 0, start, octet
    cdef int parts = 0
    while True:
        start = i
        octet = 0
        while i < length and is_digit(p[i]) and i - start < 3:
            octet = octet * 10 + p[i] - 48
            i += 1
        if i == start or octet > 255 or (p[start] == 48 and i - start > 1):
            return False
        parts += 1
        if i == length:
            return parts == 4
        if parts == 4 or p[i] != 46:
            return False
        i += 1


cdef inline bint has_ipv6(const uint8_t *p, uint32_t length) noexcept nogil:
    """IPv6address of RFC 3986 3.2.2; neither a zone nor IPvFuture."""
    cdef uint32_t i = 0, start
    cdef int groups = 0
    cdef bint gap = False
    if length < 2:
        return False
    if p[0] == 58:
        if p[1] != 58:
            return False
        gap = True
        i = 2
    while i < length:
        start = i
        while i < length and hex_value(p[i]) >= 0:
            i += 1
        if i < length and p[i] == 46:
            if not has_ipv4(p + start, length - start):
                return False
            groups += 2
            return groups <= 7 if gap else groups == 8
        if i == start or i - start > 4:
            return False
        groups += 1
        if i == length:
            break
        if p[i] != 58:
            return False
        i += 1
        if i == length:
            return False
        if p[i] == 58:
            if gap:
                return False
            gap = True
            i += 1
    return groups <= 7 if gap else groups == 8


cdef inline bint is_host_char(uint8_t c) noexcept nogil:
    """unreserved and sub-delims of RFC 3986 without ",": two Host fields folded into one must not pass as a name."""
    if 97 <= (c | 32) <= 122 or 45 <= c <= 46 or is_digit(c):
        return True
    return c in (95, 126, 33, 36, 38, 39, 40, 41, 42, 43, 59, 61)


cdef inline bint split_authority(const uint8_t *p, uint32_t length, uint32_t *host_length, int *port) noexcept nogil:
    """host [":" port] without userinfo; `port` is -1 when absent or empty, else 0..65535 in at most five digits.

    The host may be empty only when nothing follows it (the caller decides whether that is acceptable).
    """
    cdef uint32_t i = 0
    cdef uint32_t value = 0
    port[0] = -1
    if length and p[0] == 91:
        while i < length and p[i] != 93:
            i += 1
        if i == length or not has_ipv6(p + 1, i - 1):
            return False
        i += 1
    else:
        while i < length and p[i] != 58:
            if p[i] == 37:
                if length - i < 3 or hex_value(p[i + 1]) < 0 or hex_value(p[i + 2]) < 0:
                    return False
                i += 3
            elif is_host_char(p[i]):
                i += 1
            else:
                return False
        if i == 0:
            host_length[0] = 0
            return length == 0
    host_length[0] = i
    if i == length:
        return True
    if p[i] != 58 or length - i > 6:
        return False
    i += 1
    if i == length:
        return True
    while i < length:
        if not is_digit(p[i]):
            return False
        value = value * 10 + p[i] - 48
        i += 1
    port[0] = <int>value
    return value <= 65535


cdef inline bint same_host(const uint8_t *a, const uint8_t *b, uint32_t length) noexcept nogil:
    """ASCII case-insensitive; the bytes are already known to be host characters."""
    cdef uint32_t i
    cdef uint8_t x, y
    for i in range(length):
        x = a[i]
        y = b[i]
        if 65 <= x <= 90:
            x |= 32
        if 65 <= y <= 90:
            y |= 32
        if x != y:
            return False
    return True


cdef inline int judge_codings(const uint8_t *p, uint32_t length) noexcept nogil:
    """Transfer-Encoding value: 1 is exactly `chunked`, 0 well-formed but with another coding, -1 malformed.

    Malformed is also: an empty element, chunked anywhere but last, twice, or with parameters; quoted parameter values.
    """
    cdef uint32_t i = 0, start
    cdef bint chunked
    cdef int codings = 0
    if equals_token(p, length, b"chunked", 7):
        return 1
    while True:
        while i < length and is_blank(p[i]):
            i += 1
        start = i
        while i < length and amphorad_lower[p[i]]:
            i += 1
        if i == start:
            return -1
        codings += 1
        chunked = equals_token(p + start, i - start, b"chunked", 7)
        while True:                 # *( OWS ";" OWS token "=" token )
            while i < length and is_blank(p[i]):
                i += 1
            if i == length or p[i] != 59:
                break
            if chunked:
                return -1
            i += 1
            while i < length and is_blank(p[i]):
                i += 1
            start = i
            while i < length and amphorad_lower[p[i]]:
                i += 1
            if i == start or i == length or p[i] != 61:
                return -1
            i += 1
            start = i
            while i < length and amphorad_lower[p[i]]:
                i += 1
            if i == start:
                return -1
        if i == length:
            return -1 if chunked and codings == 1 else 0
        if p[i] != 44 or chunked:
            return -1
        i += 1


cdef inline bint lists_word(const uint8_t *p, uint32_t length, const char *lower, uint32_t lower_length) noexcept nogil:
    """Whether a token stands anywhere in the value, whatever is around it; for where a false yes is harmless."""
    cdef uint32_t i = 0, start
    while i < length:
        start = i
        while i < length and amphorad_lower[p[i]]:
            i += 1
        if i == start:
            i += 1
        elif equals_token(p + start, i - start, lower, lower_length):
            return True
    return False
