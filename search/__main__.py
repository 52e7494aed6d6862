"""`python -m search` is `search`; `torchrun --nproc-per-node N -m search` runs N processes."""

import sys

from search.cli import main

if __name__ == "__main__":
    sys.exit(main())
