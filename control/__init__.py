"""Everything that is not audio: HTTP, Twilio REST, ElevenLabs REST, policy, ledger, supervision."""
