"""A call in progress goes to a person: by request, by the agent's own wish, or by the routes of a number.

order       what is asked for, and what becomes of it: plain values, kept with the call's record
documents   the TwiML of a transfer
service     the story: asked, the agent lets go, dialled, and back to the agent when nobody answers
warm        the person is rung first, told what it is about, and joined in a conference
"""
