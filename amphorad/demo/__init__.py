"""`amphorad demo`: something to look at and to break, on loopback, as any user.

    member    one demo member: a small HTTP server in a process of its own, so that it can be killed
    traffic   keeps a rate of requests going and measures them, as a client sees them
    view      frames of text
    run       builds all of it around a real supervisor, and obeys the keys

The configuration is `amphorad/data/demo.cfg`, a file that Octavia's own renderer wrote; only its ports are replaced.
"""
