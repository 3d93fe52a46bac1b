# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Smooth weighted round robin: every member its weight in each cycle, and no run of one member that could be avoided.

With W the sum of the weights, each pick adds to every member its weight as credit and takes W from the chosen one. Only
a member whose credit is above zero is chosen, from which it follows that over W picks each member is chosen exactly as
often as its weight says, and that all credits are back where they began.

Choosing the highest credit, the well-known rule, still makes runs where one cycle meets the next (3:2:1 gives
`a b a c b a | a b`), so two rules refine it:

- no member weighs more than half: the member chosen last waits, if any other has credit;
- one member weighs more than half: it is set against all others together, and is chosen when its credit is at least
  theirs. That spreads the others evenly, so a run of it is never longer than `weight / weight of the others`, rounded up.

The credit lives with the member and outlives the picker, so an apply in the middle of a cycle does not begin a new one.
What members that came or went have left over is evened out: credits are kept within `-W..W` and their sum at zero.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t

from amphorad.algorithms.picker cimport PickKey, Picker
from amphorad.algorithms.shared_memory cimport acquire, add_relaxed, leave

__all__: list[str] = []


cdef void _settle(Picker *self, int64_t total) noexcept nogil:
    """Bound all credits and make their sum zero. The lock is held, and there is at least one member."""
    cdef uint32_t index
    cdef int64_t surplus = 0, share, credit
    for index in range(self.count):
        credit = self.loads[index].credit
        credit = total if credit > total else (-total if credit < -total else credit)
        self.loads[index].credit = credit
        surplus += credit
    share = surplus / <int64_t>self.count       # towards zero: what is left over has the sign of `surplus`
    surplus -= share * self.count
    for index in range(self.count):
        self.loads[index].credit -= share
        if surplus > 0:
            self.loads[index].credit -= 1
            surplus -= 1
        elif surplus < 0:
            self.loads[index].credit += 1
            surplus += 1


cdef uint32_t _choose(Picker *self, int64_t total) noexcept nogil:
    """The member next in order, by credits that already have their weight added and sum up to `total`."""
    cdef uint32_t index, heaviest = 0, best = 0
    cdef uint32_t last = self.shared.cursor - 1         # as rotation does, the cursor points behind the last one
    cdef bint found = False
    for index in range(1, self.count):
        if self.weights[index] > self.weights[heaviest]:
            heaviest = index
    if 2 * <int64_t>self.weights[heaviest] > total:
        if 2 * self.loads[heaviest].credit >= total:
            return heaviest
        last = heaviest                                 # the others have more than half of the credit
    for index in range(self.count):
        if index != last and (not found or self.loads[index].credit > self.loads[best].credit):
            best = index
            found = True
    if last < self.count and (not found or self.loads[best].credit <= 0):
        return last
    return best


cdef int32_t pick_smooth(Picker *self, const PickKey *key) noexcept nogil:
    cdef uint32_t index, chosen
    cdef int64_t total = 0, surplus = 0
    if self.count == 0:
        return -1
    acquire(&self.shared.lock)
    for index in range(self.count):
        surplus += self.loads[index].credit
        total += self.weights[index]
    if surplus:     # a picker of an older generation is at work on other members or weights than ours
        _settle(self, total)
    for index in range(self.count):
        self.loads[index].credit += self.weights[index]
    chosen = _choose(self, total)
    self.loads[chosen].credit -= total
    self.shared.cursor = chosen + 1
    add_relaxed(&self.loads[chosen].in_flight, 1)
    leave(&self.shared.lock)
    return <int32_t>chosen


cdef void settle_credits(Picker *self) noexcept nogil:
    cdef uint32_t index
    cdef int64_t total = 0
    if self.count == 0:
        return
    for index in range(self.count):
        total += self.weights[index]
    acquire(&self.shared.lock)
    _settle(self, total)
    leave(&self.shared.lock)
