"""`tandem doctor`: is everything there that a call needs? Reads and asks, changes nothing.

values     what a check says
host       this machine: folders, disk, zone data, compiled lane, systemd
records    the store, as it is; nothing is migrated
providers  credentials, the numbers' webhooks, the clock against the providers' own
reach      the public URL from here: name, connection, TLS, answer
service    all of it in order
"""
