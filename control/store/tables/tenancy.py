"""Tenants: subaccounts, sealed secrets, API keys."""
