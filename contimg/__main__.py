"""`python -m contimg` is the `contimg` command."""

import sys

from contimg.cli import main

sys.exit(main())
