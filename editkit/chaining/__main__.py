"""One process of a stage that runs under another program; `editkit run` starts it."""

import sys

from editkit.chaining.run import main

main(sys.argv[1:])
