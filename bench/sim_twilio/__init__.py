"""A simulated Twilio: REST API, signed webhooks, TwiML, and media streams with a caller at the far end.

    sim        TwilioSim: the account as a whole; start reading here
    call       SimCall: one call, everything that happened on it, and the levers on it
    callee     Caller: how a person behaves (pure)
    playout    Twilio's outbound buffer: media, mark, clear (pure)
    life, verbs, twiml                     calls and the TwiML they run
    stream, connecting, messages           the media stream
    webhooks, callbacks, parameters, signing
    rest, calls_resource, numbers_resource, account, server, faults
    market, available_resource, addresses_resource        numbers for sale, and what countries ask for
    compliance_resource, geo_resource      bundles, Trust Hub, dialling permissions
    sound      G.711 and WAV

It shares no code with the product, so that a misunderstanding cannot sit on both ends of a wire.
"""

from __future__ import annotations

from bench.sim_twilio.account import Number
from bench.sim_twilio.call import DebuggerEntry, SimCall
from bench.sim_twilio.callbacks import Delivery
from bench.sim_twilio.callee import Caller, HangsUp, Presses, Says, When
from bench.sim_twilio.connecting import StreamOptions
from bench.sim_twilio.playout import Clear, Gap, Playout
from bench.sim_twilio.sim import TwilioSim
from bench.sim_twilio.stream import MediaStream

__all__ = [
    "Caller",
    "Clear",
    "DebuggerEntry",
    "Delivery",
    "Gap",
    "HangsUp",
    "MediaStream",
    "Number",
    "Playout",
    "Presses",
    "Says",
    "SimCall",
    "StreamOptions",
    "TwilioSim",
    "When",
]
