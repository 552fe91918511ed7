"""Telephone numbers: bought, adopted, released."""
