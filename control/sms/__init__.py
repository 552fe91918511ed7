"""Text messages: templates, and what is sent after a call."""
