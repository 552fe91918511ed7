"""Provisioning: what each agent's saga has done, and its health."""
