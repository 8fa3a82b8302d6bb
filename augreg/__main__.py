"""`python -m augreg` is the command line."""

import sys

from augreg.cli import main

sys.exit(main())
