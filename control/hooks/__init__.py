"""The public HTTP application: the providers' webhooks. Signature first, then one call to the switchboard."""
