"""Medical image registration: learned from a few images, or solved in a blink by linear programming."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__version__ = "0.1.0"
