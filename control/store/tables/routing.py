"""Routing, provider events, and figures."""
