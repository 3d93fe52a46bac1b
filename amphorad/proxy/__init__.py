"""The data plane: one process that carries the traffic of one load balancer.

    process         the process: takes the supervisor's messages, runs the health checks, tells what happens
    settings        what an operator chooses for its life
    data_plane      publishes configurations and the states of members to the engine threads, and ends them
    preparation     what a configuration needs, built beside what runs
    engine_tables   pools and listeners of the model as immutable tables of the engine
    policy, listener_tls, member_tls, staples   parts of these tables: L7 policies, TLS towards clients and members
    member_states   pure: which members the balancing may use, and with what weight
    draining        since when listeners and members drain
    departures      what has been taken out, until its last session has let go of it
    traffic_log, log_format, json_log   a line for each session
    admin_log       lines about members, to the log targets of the configuration
    exporter        what answers PROMETHEUS listeners
    engine/         compiled: the threads that carry the traffic
    wire/           compiled: decisions on bytes, without I/O
    tls/, http2/    transports between a connection and its descriptor
    peers/          stick tables, told to the other node of a pair

Configurations go down: process, data_plane, preparation, engine_tables, engine. Nothing here reads a file: the bytes of certificates
come with a configuration, and so do the sockets of listeners.
"""
