"""Benchmarks: amphorad against HAProxy and nginx, load scenarios, and the soak run.

Parts:
    compare.py      the comparison: cases x rounds x candidates, interleaved, CPU per unit of work
    plot.py         bar chart of a comparison's JSON
    locust_run.py   locust scenarios (load/locustfile.py) against a demo load balancer
    soak.py         long churn with configuration changes and failing members; leak check at the end
    micro/          micro-benchmarks of single modules
    load/           C load tools and backend (compiled on demand into out/), wrk and locust scripts
    tools.py, cputime.py, namespace.py, config.py, candidates.py, cases.py, report.py    what compare.py is made of

Everything talks to loopback only. README.md has the method, the commands and the limits.
"""
