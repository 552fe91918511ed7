"""What one would use instead of Tandem: small honest bridges with the same front.

Each listens on `LISTEN_PORT` for `/media/<name>` and joins that stream to `AGENT_URL/<name>`. They have no
webhook, no ticket, no pacing, no marks, no records: they are what the media plane is compared with, and the
comparison is in their favour.
"""
