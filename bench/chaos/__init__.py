"""Random and named SIGKILLs under load, with the checker's verdict afterwards: `python -m bench.chaos --help`."""
