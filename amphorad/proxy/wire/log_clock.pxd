# cython: language_level=3, cdivision=True
"""Dates of a log line without localtime(3) in the hot path. Only inline functions, for `log_line`."""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy, memset
from posix.types cimport time_t

from amphorad.proxy.wire.log_text cimport HEX_DIGITS, LOG_HEX, Writer, put_whole, write_pair

cdef extern from "<time.h>" nogil:
    """
    static const char LOG_MONTHS[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    """
    struct tm:
        int tm_sec
        int tm_min
        int tm_hour
        int tm_mday
        int tm_mon
        int tm_year
        long tm_gmtoff
    tm *localtime_r(const time_t *moment, tm *result)
    tm *gmtime_r(const time_t *moment, tm *result)
    const char *MONTHS "LOG_MONTHS"

cdef enum:
    CLOCK_SLOTS = 8                 # quarters of an hour kept by a LogClock

cdef struct LogQuarter:             # local time of a quarter of an hour
    int64_t quarter                 # seconds since the epoch / 900, plus 1; 0: empty
    char date[15]                   # 20/Nov/2026:18:
    char stamp[10]                  # Nov 20 18:
    char zone[5]                    # +0100
    uint8_t minute                  # of its begin

cdef struct LogClock:               # zero bytes = empty; one per thread. Keeps localtime(3) out of the hot path
    LogQuarter quarters[CLOCK_SLOTS]


cdef inline void write_date(char *at, const tm *parts) noexcept nogil:
    """`20/Nov/2026:18:`, 15 bytes."""
    cdef uint32_t year = <uint32_t> (parts.tm_year + 1900)
    write_pair(at, parts.tm_mday)
    at[2] = c'/'
    memcpy(at + 3, &MONTHS[parts.tm_mon * 3], 3)
    at[6] = c'/'
    write_pair(at + 7, year // 100)
    write_pair(at + 9, year)
    at[11] = c':'
    write_pair(at + 12, parts.tm_hour)
    at[14] = c':'


cdef inline void fill_quarter(LogQuarter *slot, int64_t second, const tm *parts) noexcept nogil:
    cdef long offset = parts.tm_gmtoff // 60
    write_date(slot.date, parts)
    memcpy(slot.stamp, &MONTHS[parts.tm_mon * 3], 3)
    slot.stamp[3] = c' '
    slot.stamp[4] = <char> (c'0' + parts.tm_mday // 10) if parts.tm_mday >= 10 else c' '
    slot.stamp[5] = <char> (c'0' + parts.tm_mday % 10)
    slot.stamp[6] = c' '
    write_pair(&slot.stamp[7], parts.tm_hour)
    slot.stamp[9] = c':'
    slot.zone[0] = c'+' if offset >= 0 else c'-'
    offset = offset if offset >= 0 else -offset
    write_pair(&slot.zone[1], <uint32_t> (offset // 60))
    write_pair(&slot.zone[3], <uint32_t> (offset % 60))
    slot.minute = <uint8_t> parts.tm_min
    slot.quarter = second // 900 + 1


cdef inline const LogQuarter *find_quarter(LogClock *clock, int64_t second, uint32_t *minute,
                                           uint32_t *rest) noexcept nogil:
    """The slot of a moment, with its minute and second. Offsets from UTC change on quarters of an hour, in every zone
    in use; a made-up zone with odd minutes is converted each time instead."""
    cdef LogQuarter *slot
    cdef int64_t quarter
    cdef time_t moment
    cdef tm parts
    if second < 0 or second >= <int64_t> 253402214400LL:      # years of four digits
        second = 0
    quarter = second // 900
    slot = &clock.quarters[quarter % CLOCK_SLOTS]
    rest[0] = <uint32_t> (second % 60)
    if slot.quarter != quarter + 1:
        moment = second
        memset(&parts, 0, sizeof(parts))
        localtime_r(&moment, &parts)
        fill_quarter(slot, second, &parts)
        minute[0] = <uint32_t> parts.tm_min
        if parts.tm_gmtoff % 900 != 0:
            slot.quarter = 0
            rest[0] = <uint32_t> parts.tm_sec
            return slot
        slot.minute = <uint8_t> (parts.tm_min - parts.tm_min % 15)
    minute[0] = slot.minute + <uint32_t> (second % 900) // 60
    return slot


cdef inline bint put_date(Writer *writer, LogClock *clock, int64_t moment_us, bint local_form) noexcept nogil:
    """`20/Nov/2026:18:13:08.012`, or with the offset from UTC `20/Nov/2026:18:13:08 +0100`."""
    cdef char text[26]
    cdef uint32_t minute, second, milliseconds
    cdef const LogQuarter *slot = find_quarter(clock, moment_us // 1000000, &minute, &second)
    memcpy(text, slot.date, 15)
    write_pair(text + 15, minute)
    text[17] = c':'
    write_pair(text + 18, second)
    if local_form:
        text[20] = c' '
        memcpy(text + 21, slot.zone, 5)
        return put_whole(writer, text, 26)
    milliseconds = <uint32_t> (moment_us // 1000 % 1000) if moment_us >= 0 else 0
    text[20] = c'.'
    text[21] = <char> (c'0' + milliseconds // 100)
    write_pair(text + 22, milliseconds)
    return put_whole(writer, text, 24)


cdef inline bint put_date_gmt(Writer *writer, int64_t moment_us) noexcept nogil:
    cdef char text[26]
    cdef tm parts
    cdef time_t moment = moment_us // 1000000
    if moment < 0 or moment >= <int64_t> 253402214400LL:
        moment = 0
    memset(&parts, 0, sizeof(parts))
    gmtime_r(&moment, &parts)
    write_date(text, &parts)
    write_pair(text + 15, parts.tm_min)
    text[17] = c':'
    write_pair(text + 18, parts.tm_sec)
    memcpy(text + 20, b" +0000", 6)
    return put_whole(writer, text, 26)


cdef inline bint put_milliseconds(Writer *writer, int64_t moment_us, uint8_t flags) noexcept nogil:
    cdef char text[3]
    cdef uint32_t milliseconds = <uint32_t> (moment_us // 1000 % 1000) if moment_us >= 0 else 0
    if flags & LOG_HEX:             # HAProxy: %02X
        text[0] = HEX_DIGITS[milliseconds >> 8]
        text[1] = HEX_DIGITS[(milliseconds >> 4) & 15]
        text[2] = HEX_DIGITS[milliseconds & 15]
        return put_whole(writer, text, 3) if milliseconds > 0xFF else put_whole(writer, text + 1, 2)
    text[0] = <char> (c'0' + milliseconds // 100)
    write_pair(text + 1, milliseconds)
    return put_whole(writer, text, 3)
