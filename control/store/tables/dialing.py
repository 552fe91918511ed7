"""Dialling: the durable queue of outbound calls."""
