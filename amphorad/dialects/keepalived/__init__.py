"""The two keepalived dialects (Octavia contract sections 5.1 and 5.4), which share a syntax.

    tokenizer   text -> tree of directives and blocks, with line numbers; comments kept, because in one dialect they are data
    reading     one block's directives: each known, given once, with words of the right kind
    vrrp        octavia-keepalived.conf of an ACTIVE_STANDBY pair  ->  `VrrpConfiguration`
    lvs         octavia-keepalivedlvs-<listener_id>.conf           ->  `LvsConfiguration`

Both grammars are closed: exactly what the controller's templates can write, in any order within a block. keepalived itself
would also run notification scripts, include files and expand variables: whoever can write such a line into the text runs programs as root
on the amphora. Nothing of that is in the grammar, so a text that passes holds addresses, numbers and names only, and one path that
the reader knows beforehand.
"""

from amphorad.dialects.keepalived.lvs import LvsConfiguration
from amphorad.dialects.keepalived.vrrp import VrrpConfiguration

__all__ = ["LvsConfiguration", "VrrpConfiguration"]
