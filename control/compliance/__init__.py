"""The policy's surroundings: what is known of a call, lists of numbers, the opt-out inside a call, evidence."""
