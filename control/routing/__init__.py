"""Who answers a called number at this hour: an ordered list of routes, the first that matches decides.

model       what a route looks like: conditions and targets
calendar    public holidays of a country or a region of it
decide      routes and an instant in, a target and the reason out; pure
callers     what is known of the one who calls
"""
