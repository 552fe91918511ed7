"""Results pushed to the customer: signed by Standard Webhooks, at least once, to addresses that were checked."""
