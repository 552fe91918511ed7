"""What is kept of calls and messages for how long, and how it is erased.

periods   days, of a tenant and of the configuration
remains   what is left of texts, times and numbers; pure
proof     the line of the ledger that shows what was erased
service   the sweep, requests to erase, files, and ElevenLabs' copy
"""
