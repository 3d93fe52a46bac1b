"""VRRP by keepalived: which amphora of a pair has the VIPs.

    effective      the controller's configuration -> what keepalived reads: the same to every peer, quicker inside
    check_script   the script that keepalived runs, and the file that tells it what to look for
    verdict        whether this node can serve, with hysteresis (pure)
    health         the verdict written where keepalived and the script read it
    states         MASTER, BACKUP, FAULT: keepalived's own words about itself, with since and history
    keepalived     one keepalived process: launched or adopted, reloaded, ended, its death noticed at once
    addresses      the VIPs in the namespace, by netlink; the peer's advertisements
    service        `Vrrp`: upload, start, stop, reload, restore, and what to do when keepalived dies
    paths          where the files are
    pair           settings of a pair without a controller -> both nodes' keepalived configuration
    writer         the only module that imports keepalived-config (GPL-3.0), an optional extra

Data goes from the controller's text (`amphorad.dialects.keepalived`) to the effective file; health goes by one file to keepalived; keepalived's
state comes back by a named pipe. Election, advertisements, addresses, routes, rules and announcements are keepalived's.
keepalived outlives the agent, and the next agent adopts it. The rules for its death stand in `service`.
"""

from amphorad.vrrp.service import Vrrp
from amphorad.vrrp.states import State

__all__ = ["State", "Vrrp"]
