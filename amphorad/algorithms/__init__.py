"""How the next member of a pool is chosen.

Parts: `picker` builds what the engine calls without the interpreter lock; `round_robin`, `weighted_round_robin`,
`least_connections`, `source_ip_hash` and `maglev` hold one compiled algorithm each; `shared_memory` is the lock and the
atomic counters they use; `registry` knows the algorithms of other packages and `python_picker` runs them; `BuiltPicker` in
`built_picker` is the face for Python.

Data goes one way: usable members, with their weights and their places in shared memory, make a picker; a session's client
address makes an index. A picker knows nothing of health, persistence or configuration: its caller leaves out members that
are down, drained or waiting as backups, and builds a new picker when any of that changes. In-flight counts and the order of
round robin live in shared memory, so they are exact over all threads and go on through rebuilds and restarts.

An algorithm of your own is an object with `pick`, made by a factory from the usable members:

    import random

    from amphorad.algorithms import register

    class TwoChoices:
        \"\"\"The less busy of two members drawn at random.\"\"\"

        def __init__(self, members):
            self.members = members

        def pick(self, session):
            drawn = random.choices(self.members, k=2)
            return min(drawn, key=lambda member: member.in_flight / member.weight).index

    register("two_choices", TwoChoices)

A package offers it to every amphorad on the machine by an entry point instead of `register`:

    [project.entry-points."amphorad.algorithms"]
    two_choices = "two_choices:TwoChoices"

The pool then says `algorithm = "two_choices"`. `members` is never changed while the object lives, and may be empty, in which
case `pick` is not called. The price is the interpreter lock and one Python call per pick.
"""

from amphorad.algorithms.registry import Algorithm, MemberView, SessionView, names, register

__all__ = ["Algorithm", "MemberView", "SessionView", "names", "register"]
