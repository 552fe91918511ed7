"""Figures drawn from the records: for people, and for the policy's breaker.

health      is this traffic healthy: what carriers look at
usage       what Twilio billed, by category, kept for a while
"""
