"""What every registration shares: the pair it is given, the states it reports, and registrations that wrap others."""

from augreg.registration.chained import Chained
from augreg.registration.consistent import ConsistentRegistration, inconsistency
from augreg.registration.pair import Prepared, Registration, State, prepare

__all__ = ["Chained", "ConsistentRegistration", "Prepared", "Registration", "State", "inconsistency", "prepare"]
