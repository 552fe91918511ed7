"""Outbound calls, from the request to the moment at which Twilio is asked.

intake     the request: decided, written down, queued; whoever asked waits for a while
pump       takes due calls out of the queue, each tenant in its turn and at its pace
desk       what intake, pump and `control.dialer` share
pace       slower when Twilio queues, faster again when it does not
plan       when a call is due, and until when it is worth trying
machines   answering machines: what Twilio is asked for, and what is done about one
reasons    Twilio's codes in words that say what to do
"""
