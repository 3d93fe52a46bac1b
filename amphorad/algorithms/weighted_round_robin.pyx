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

from amphorad.algorithms.picker cimport MemberLoad, PickKey, Picker
from amphorad.algorithms.shared_memory cimport acquire, add_relaxed, leave

__all__: list[str] = []

cdef int64_t LOWEST = -(1 << 62)


cdef void _settle(Picker *self) noexcept nogil:
    """Bound all credits and make their sum zero. The lock is held, and there is at least one member."""
    cdef uint32_t index
    cdef int64_t surplus = 0, share, credit, total = self.total_weight
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


cdef int64_t _earn(Picker *self, uint32_t waiting, uint32_t *best) noexcept nogil:
    """Add each weight to its credit, and find the highest but for the member that waits. Returns the sum of all credits.

    The inner loop of the algorithm, one pass over the members.
    """
    cdef MemberLoad **loads = self.loads
    cdef uint32_t *weights = self.weights
    cdef uint32_t index, found = waiting
    cdef int64_t credit, highest = LOWEST, total = 0
    for index in range(self.count):
        credit = loads[index].credit + weights[index]
        loads[index].credit = credit
        total += credit
        if credit > highest and index != waiting:
            highest = credit
            found = index
    best[0] = found
    return total


cdef void _repay(Picker *self) noexcept nogil:
    cdef uint32_t index
    for index in range(self.count):
        self.loads[index].credit -= self.weights[index]


cdef int32_t pick_smooth(Picker *self, const PickKey *key) noexcept nogil:
    cdef uint32_t heaviest = self.heaviest, waiting, chosen = 0
    cdef int64_t total = self.total_weight
    cdef bint dominated
    if self.count == 0:
        return -1
    dominated = 2 * <int64_t>self.weights[heaviest] > total
    acquire(&self.shared.lock)
    # as in rotation, the cursor points behind the member chosen last
    waiting = heaviest if dominated else self.shared.cursor - 1
    if _earn(self, waiting, &chosen) != total:
        # a picker of an older generation is at work on other members or weights than ours
        _repay(self)
        _settle(self)
        _earn(self, waiting, &chosen)
    if dominated:
        if 2 * self.loads[heaviest].credit >= total:
            chosen = heaviest
    elif waiting < self.count and self.loads[chosen].credit <= 0:
        chosen = waiting                        # nobody else has credit, so it has
    self.loads[chosen].credit -= total
    self.shared.cursor = chosen + 1
    add_relaxed(&self.loads[chosen].in_flight, 1)
    leave(&self.shared.lock)
    return <int32_t>chosen


cdef void settle_credits(Picker *self) noexcept nogil:
    if self.count == 0:
        return
    acquire(&self.shared.lock)
    _settle(self)
    leave(&self.shared.lock)
