"""The simulated providers and the load bench. Nothing here imports `gateway`, `control` or `policy`."""
