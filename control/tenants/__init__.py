"""Tenants: who may ask, whose Twilio account is used, and how much of it."""
