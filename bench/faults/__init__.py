"""Faults on demand: a TCP proxy in user space that makes a wire slow, broken or dead while it runs.

proxy = FaultProxy(upstream_port)
url = await nursery.start(proxy.run)
proxy.set(Fault(latency_s=0.2, jitter_s=0.1), way="down", about=b"agent_id=agent_1")
proxy.heal()
"""

from __future__ import annotations

from bench.faults.proxy import Fault, FaultProxy, Link, Way

__all__ = ["Fault", "FaultProxy", "Link", "Way"]
