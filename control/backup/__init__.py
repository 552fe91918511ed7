"""Backup and restore of the store, the do-not-call files, and (if asked for) the recordings.

archive    the file: a tar with a manifest of hashes, written whole or not at all
database   a consistent copy of the database, and its way back
service    the two commands
"""
