# cython: language_level=3, cdivision=True
"""Bytes of a log line: a bounded writer, numbers, encoded text, addresses. Only inline functions, for `log_line`.

Encoding: HAProxy configuration manual 8.6. Addresses: RFC 5952.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum LogFlag:
    LOG_QUOTE = 1                   # +Q
    LOG_HEX = 2                     # +X
    LOG_ESCAPE = 4                  # +E
    LOG_JSON = 8                    # a value of a JSON line

cdef struct LogAddress:
    const uint8_t *address          # network order; NULL: not known, written as `-`
    uint8_t length                  # 4 or 16; anything else counts as not known
    uint16_t port

cdef enum Class:
    IN_REQUEST = 1                  # becomes #XX in a request line
    CONTROL = 2                     # becomes #XX in other text
    ESCAPED = 4                     # gets a backslash with +E
    IN_JSON = 8                     # becomes #XX in a JSON line, beside what does in a request line

cdef extern from *:
    """
    #define LOG_ONES 0x0101010101010101ULL
    #define LOG_HIGHS 0x8080808080808080ULL
    static const char LOG_HEX_DIGITS[] = "0123456789ABCDEF";
    static const char LOG_DIGIT_PAIRS[] =
        "00010203040506070809101112131415161718192021222324"
        "25262728293031323334353637383940414243444546474849"
        "50515253545556575859606162636465666768697071727374"
        "75767778798081828384858687888990919293949596979899";
    static const unsigned char LOG_CLASSES[256] = {
        3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3,
        0, 0, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 4, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    };
    """
    const uint64_t ONES "LOG_ONES"              # a 1 in every byte of a word
    const uint64_t HIGHS "LOG_HIGHS"            # the top bit of every byte
    const char *HEX_DIGITS "LOG_HEX_DIGITS"
    const char *DIGIT_PAIRS "LOG_DIGIT_PAIRS"  # 00 to 99
    const uint8_t *CLASSES "LOG_CLASSES"        # Class bits of each byte

cdef struct Writer:                 # `at` <= `end` always; `end` is where the LF must still fit
    char *at
    char *end


# Every put_* returns 1, or 0 when the line is full and formatting must stop.

cdef inline bint put_byte(Writer *writer, char byte) noexcept nogil:
    if writer.at == writer.end:
        return False
    writer.at[0] = byte
    writer.at += 1
    return True


cdef inline bint put_raw(Writer *writer, const char *data, size_t length) noexcept nogil:
    cdef size_t space = <size_t> (writer.end - writer.at)
    cdef size_t count = length if length <= space else space
    if count == 1:                  # the blank between two variables
        writer.at[0] = data[0]
        writer.at += 1
    elif count:
        memcpy(writer.at, data, count)
        writer.at += count
    return count == length


cdef inline bint put_whole(Writer *writer, const char *data, size_t length) noexcept nogil:
    if <size_t> (writer.end - writer.at) < length:
        return False
    memcpy(writer.at, data, length)
    writer.at += length
    return True


cdef inline bint put_number(Writer *writer, uint64_t value) noexcept nogil:
    cdef char digits[20]
    cdef int first = 20
    cdef uint32_t pair
    while value >= 100:
        pair = <uint32_t> (value % 100) * 2
        value //= 100
        first -= 2
        memcpy(&digits[first], &DIGIT_PAIRS[pair], 2)
    if value >= 10:
        first -= 2
        memcpy(&digits[first], &DIGIT_PAIRS[value * 2], 2)
    else:
        first -= 1
        digits[first] = <char> (c'0' + value)
    return put_whole(writer, &digits[first], 20 - first)


cdef inline bint put_signed(Writer *writer, int64_t value) noexcept nogil:
    cdef char *start = writer.at
    if value >= 0:
        return put_number(writer, <uint64_t> value)
    if put_byte(writer, c'-') and put_number(writer, ~<uint64_t> value + 1):
        return True
    writer.at = start
    return False


cdef inline bint put_hex(Writer *writer, uint64_t value) noexcept nogil:
    """At least four upper-case digits."""
    cdef char digits[16]
    cdef int first = 16
    while value or first > 12:
        first -= 1
        digits[first] = HEX_DIGITS[value & 15]
        value >>= 4
    return put_whole(writer, &digits[first], 16 - first)


cdef inline bint put_counter(Writer *writer, uint64_t value, uint8_t flags) noexcept nogil:
    return put_hex(writer, value) if flags & LOG_HEX else put_number(writer, value)


cdef inline uint64_t zero_bytes(uint64_t word) noexcept nogil:
    """Not 0 if and only if a byte of the word is 0."""
    return (word - ONES) & ~word & HIGHS


cdef inline uint64_t suspects(uint64_t word, uint8_t mask) noexcept nogil:
    """Not 0 if and only if a byte of the word is in one of the classes of `mask`: eight table look-ups in one go."""
    cdef uint64_t found = ((word - ONES * 0x20) & ~word & HIGHS) | zero_bytes(word ^ (ONES * 0x7F))
    if mask & IN_REQUEST:
        found |= (word & HIGHS) | zero_bytes((word & (ONES * 0xFE)) ^ (ONES * 0x22))        # 0x22 and 0x23
    if mask & IN_JSON:
        found |= zero_bytes(word ^ (ONES * 0x5C))
    if mask & ESCAPED:
        found |= zero_bytes(word ^ (ONES * 0x22)) | zero_bytes(word ^ (ONES * 0x5C)) | zero_bytes(word ^ (ONES * 0x5D))
    return found


cdef inline bint put_encoded(Writer *writer, const char *data, size_t length, uint8_t mask) noexcept nogil:
    """Text with the bytes of the classes in `mask` encoded. Eight bytes at a time while they are clean; the last eight
    may overlap the ones before, which are written again as they are."""
    cdef uint64_t word
    cdef size_t done = 0
    if <size_t> (writer.end - writer.at) >= length >= 8:
        while done < length:
            if done > length - 8:
                done = length - 8
            memcpy(&word, data + done, 8)
            if suspects(word, mask):
                break
            memcpy(writer.at + done, &word, 8)
            done += 8
        writer.at += done
    return done == length or put_encoded_bytes(writer, data + done, length - done, mask)


cdef inline bint put_encoded_bytes(Writer *writer, const char *data, size_t length, uint8_t mask) noexcept nogil:
    """The rest of `put_encoded`, a byte at a time; an encoded byte is written whole or not at all."""
    cdef size_t i
    cdef uint8_t byte, found
    cdef char *at = writer.at
    cdef char *end = writer.end
    cdef bint complete = True
    for i in range(length):
        byte = <uint8_t> data[i]
        found = CLASSES[byte] & mask
        if end - at < (1 if not found else 2 if found == ESCAPED else 3):
            complete = False
            break
        if not found:
            at[0] = <char> byte
            at += 1
        elif found == ESCAPED:
            at[0] = c'\\'
            at[1] = <char> byte
            at += 2
        else:
            at[0] = c'#'
            at[1] = HEX_DIGITS[byte >> 4]
            at[2] = HEX_DIGITS[byte & 15]
            at += 3
    writer.at = at
    return complete


cdef inline uint8_t mask_of(uint8_t mask, uint8_t flags) noexcept nogil:
    if flags & LOG_JSON:
        return IN_REQUEST | IN_JSON
    return mask | ESCAPED if flags & LOG_ESCAPE else mask


cdef inline bint put_absent(Writer *writer, uint8_t flags) noexcept nogil:
    if flags & LOG_JSON:
        return put_whole(writer, b"null", 4)
    return put_whole(writer, b'""', 2) if flags & LOG_QUOTE else put_byte(writer, c'-')


cdef inline bint put_text(Writer *writer, const char *data, size_t length, uint8_t flags) noexcept nogil:
    if data == NULL or length == 0:
        return put_absent(writer, flags)
    if flags & LOG_QUOTE and not put_byte(writer, c'"'):
        return False
    if not put_encoded(writer, data, length, mask_of(CONTROL, flags)):
        return False
    return not flags & LOG_QUOTE or put_byte(writer, c'"')


cdef inline void write_pair(char *at, uint32_t value) noexcept nogil:
    memcpy(at, &DIGIT_PAIRS[value % 100 * 2], 2)


cdef inline char *write_octet(char *at, uint32_t value) noexcept nogil:
    if value >= 100:
        at[0] = <char> (c'0' + value // 100)
        memcpy(at + 1, &DIGIT_PAIRS[value % 100 * 2], 2)
        return at + 3
    if value >= 10:
        memcpy(at, &DIGIT_PAIRS[value * 2], 2)
        return at + 2
    at[0] = <char> (c'0' + value)
    return at + 1


cdef inline char *write_ipv4(char *at, const uint8_t *address) noexcept nogil:
    cdef int i
    for i in range(4):
        if i:
            at[0] = c'.'
            at += 1
        at = write_octet(at, address[i])
    return at


cdef inline char *write_ipv6(char *at, const uint8_t *address) noexcept nogil:
    """RFC 5952, with the dotted tail that inet_ntop(3) gives to mapped and compatible addresses; at most 45 bytes."""
    cdef uint32_t words[8]
    cdef uint32_t word
    cdef int i, shift
    cdef int run = 0
    cdef int best = -1
    cdef int best_length = 1        # a single zero group is not shortened
    cdef bint started
    for i in range(8):
        words[i] = (<uint32_t> address[2 * i] << 8) | address[2 * i + 1]
        run = run + 1 if words[i] == 0 else 0
        if run > best_length:
            best_length = run
            best = i - run + 1
    i = 0
    while i < 8:
        if i == best:
            at[0] = c':'
            at += 1
            if i + best_length == 8:
                at[0] = c':'
                at += 1
            i += best_length
            continue
        if i:
            at[0] = c':'
            at += 1
        if i == 6 and best == 0 and (best_length == 6 or (best_length == 5 and words[5] == 0xFFFF)):
            return write_ipv4(at, address + 12)
        word = words[i]
        started = False
        for shift in range(12, -4, -4):
            if started or shift == 0 or word >> shift:
                at[0] = HEX_DIGITS[(word >> shift) & 15] | 0x20     # lower case; digits keep that bit anyway
                at += 1
                started = True
        i += 1
    return at


cdef inline bint put_address(Writer *writer, const LogAddress *address, uint8_t flags) noexcept nogil:
    cdef char text[48]
    cdef char *at = text
    cdef int i
    if address.address == NULL or (address.length != 4 and address.length != 16):
        return put_absent(writer, flags)
    if flags & LOG_HEX:             # HAProxy does not quote this form
        for i in range(address.length):
            text[2 * i] = HEX_DIGITS[address.address[i] >> 4]
            text[2 * i + 1] = HEX_DIGITS[address.address[i] & 15]
        return put_whole(writer, text, 2 * <size_t> address.length)
    if flags & LOG_QUOTE:
        at[0] = c'"'
        at += 1
    at = write_ipv4(at, address.address) if address.length == 4 else write_ipv6(at, address.address)
    if flags & LOG_QUOTE:
        at[0] = c'"'
        at += 1
    return put_whole(writer, text, <size_t> (at - text))


cdef inline bint put_port(Writer *writer, const LogAddress *address, uint8_t flags) noexcept nogil:
    return put_absent(writer, flags) if address.address == NULL else put_counter(writer, address.port, flags)


cdef inline bint put_sample_number(Writer *writer, uint64_t value, uint8_t flags) noexcept nogil:
    """A numeric sample is a string by then: +Q quotes it, +X does nothing."""
    cdef char text[24]
    cdef Writer inner
    inner.at = text
    inner.end = text + 24
    put_number(&inner, value)
    return put_text(writer, text, <size_t> (inner.at - text), flags)
