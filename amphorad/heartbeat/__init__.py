"""Heartbeats to the controllers: what is there, how it is, and what it did since the last one (Octavia contract section 3).

    model in force + board --message--> values --counters--> deltas --datagram--> signed bytes --sender--> one controller

Everything but `sender` is free of sockets, clocks and files. The data plane is never asked: the board and the
configuration that the agent keeps are enough, so a saturated or dead data plane delays no heartbeat.
"""
