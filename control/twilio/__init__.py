"""Twilio at the edge: request validation and documents (pure), and the only user of its REST client."""
