"""After the call: outbox, result webhooks, messages."""
