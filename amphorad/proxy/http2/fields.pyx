# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Header fields on their way between the two versions of HTTP: what may stand in them, and lines of trailers as fields."""

cdef int64_t LENGTH_LIMIT = <int64_t>1 << 60


cdef int64_t decimal(const uint8_t *value, uint32_t length) noexcept nogil:
    """What a content-length says; -1 when it is none."""
    cdef uint32_t index
    cdef int64_t total = 0
    if length == 0:
        return -1
    for index in range(length):
        if value[index] < 48 or value[index] > 57 or total > LENGTH_LIMIT // 10:
            return -1
        total = total * 10 + value[index] - 48
    return total


cdef int64_t lines_to_fields(uint8_t *data, uint32_t length, nghttp2_nv *fields, uint32_t room) noexcept nogil:
    """The lines after the last chunk, which the engine's reader of chunks has checked, as fields that point into them.

    Names become lower case in place. Returns how many there are, `room` at most; -1: one is no field line.
    """
    cdef uint32_t place = 0
    cdef uint32_t begin
    cdef uint32_t colon
    cdef uint32_t end
    cdef uint32_t count = 0
    while place < length and count < room:
        begin = place
        while place < length and data[place] != 58 and data[place] != 13:
            if 65 <= data[place] <= 90:
                data[place] += 32
            place += 1
        if place == length or data[place] != 58:
            return -1
        colon = place
        while place < length and data[place] != 13:
            place += 1
        end = place
        place = colon + 1
        while place < end and (data[place] == 32 or data[place] == 9):
            place += 1
        set_field(&fields[count], data + begin, colon - begin, data + place, 0)
        colon = end
        while colon > place and (data[colon - 1] == 32 or data[colon - 1] == 9):
            colon -= 1
        fields[count].valuelen = colon - place
        count += 1
        place = end + 2
    return <int64_t>count
