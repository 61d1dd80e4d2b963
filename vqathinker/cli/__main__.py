"""`python -m vqathinker.cli`, which `accelerate launch -m` needs."""

import sys

from vqathinker.cli import main

sys.exit(main())
