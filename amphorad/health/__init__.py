"""Active health checks: one monitor per checked member, and what becomes of its verdicts.

    target        pure: what to check, from the pool, the member and the monitor
    schedule      pure: when; the spread start, the grid of the interval, the agenda of everything that waits
    probes/       what is said on the wire, one file per probe, bytes in and bytes out; and the two drivers of sockets
    verdict       pure: what a check found, in HAProxy's words
    hysteresis    pure: what rise and fall make of it
    monitor       the driver: one heap, one epoll set, no task per check

A monitor belongs to (listener, pool, member): two pools with the same address never see each other's results. Nothing here
knows how a member is used: transitions are reported to the owner, who tells the data plane.
"""
