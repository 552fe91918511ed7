"""Everything that is not audio: configuration, webhooks, API, store, providers' REST, workers.

Reading order
    cli, config, config_sources    what the operator says; `load()` gives `Settings` or names the wrong key
    daemon                         the composition root
    switchboard, calls             the story of a call and its record
    front, hooks                   the public port
    api                            the control port
    workers                        the media processes
    provisioning, twilio, elevenlabs    what is asked of the two providers
    store                          what is kept
    plugins, log, clock, sdnotify, metrics    the surroundings
"""
