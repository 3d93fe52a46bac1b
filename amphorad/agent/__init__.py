"""The agent: what an Octavia controller drives, as one process.

    ini             text of a configuration file -> assignments, in the dialect of the controller's configuration library
    settings        assignments -> frozen settings
    storage         what of a load balancer is on the disk: its configuration, and whether it has been started
    configuration   text of a load balancer -> model, and facts about it
    lvs_listeners   UDP and SCTP listeners: kept and answered, not carried yet
    load_balancers  one supervisor per load balancer id: upload, start, reload, stop, delete, restore
    sources, status values that heartbeats and operators are told
    service_manager readiness, watchdog and status told to systemd
    process         the composition: starts all parts in order, obeys signals, stops them in reverse order

The agent carries no traffic. Requests come in by `agent_api`, which calls the objects here; they change files first and running
things second, so that a crash in between is repaired by `restore` at the next start.
"""
