"""ElevenLabs' REST API and, pure, what an agent's configuration must hold for telephone calls.

The conversation socket is not here: the media plane speaks it (`gateway.legs`, `gateway.convai`).
"""
