"""What every registration shares: the pair it is given, how it is called, and registrations that wrap others."""

from augreg.registration.centred import Centred
from augreg.registration.chained import Chained
from augreg.registration.clock import Clock
from augreg.registration.consistent import ConsistentRegistration, inconsistency
from augreg.registration.method import Method, Registration, State, Tracker
from augreg.registration.pair import Given, Pair
from augreg.registration.projected import Projected
from augreg.registration.scenes import Scenes

__all__ = [
    "Centred",
    "Chained",
    "Clock",
    "ConsistentRegistration",
    "Given",
    "Method",
    "Pair",
    "Projected",
    "Registration",
    "Scenes",
    "State",
    "Tracker",
    "inconsistency",
]
