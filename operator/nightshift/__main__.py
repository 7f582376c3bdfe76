"""`python -m nightshift`: the operator."""

import sys

from nightshift.runtime.startup import main

sys.exit(main())
