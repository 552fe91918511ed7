"""The media gateway: the audio path of a call, from Twilio's socket to the agent's and back.

Reading order
    events, bridge          what a call is: inputs, outputs, states, and how it ends
    playout, heard, jitter  agent audio paced to the caller; what of it was heard; caller audio in order
    websocket, handshake    RFC 6455, both roles
    twilio_media, convai    the two providers' messages
    audio, g711, resample, transcode, wav
    link, settings, errors  what control and worker tell each other

All of the above are pure: no Trio, no clock, no socket, no log. The shells around them:
    mediaplane              all sockets of a worker, and the playout grid
    legs                    an agent leg dialled, a caller leg upgraded
    call                    one task per call for everything that waits
    recorder                stereo WAV files, off the media path
    worker                  the process

Nothing here knows HTTP APIs, tenants, stores or law.
"""
