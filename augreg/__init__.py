"""Medical image registration: learned from a few images, or solved in a blink by linear programming."""

import lazy_loader as _lazy

from augreg.missing import told as _told

_attribute, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__getattr__ = _told(__name__, _attribute)
__version__ = "0.1.0"
