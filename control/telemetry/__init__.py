"""Traces of calls for OpenTelemetry, made from the finished record; nothing of it runs while a call lasts.

spans     a record and its timeline as spans; pure
otlp      spans as OTLP's JSON; pure
export    a bounded queue and the requests to the collector
"""
