"""The name by which people know `augreg.streams.monai`: it is that module."""

import sys
from importlib import import_module

sys.modules[__name__] = import_module(__name__.replace("synthesis", "streams"))
