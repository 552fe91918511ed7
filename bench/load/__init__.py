"""The load bench: many calls at once through the daemon's real doors, and through what one would use instead.

    driver (`__main__`, `sessions`)   starts everything, samples /proc, judges, reports
    generator (own process, own core) callers and fake agents in one epoll loop, frames made beforehand
    target (own core)                 the daemon with its workers, or one of `bench/baselines`

Nothing in here imports `gateway`, `control` or `policy`.
"""
