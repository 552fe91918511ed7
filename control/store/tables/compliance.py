"""Compliance: consents, block lists, the chain of decisions."""
