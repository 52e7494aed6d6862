"""`python -m profiler_agent` is `profiler-agent`, for devices whose PATH lacks the script."""

import sys

from profiler_agent.cli import main

sys.exit(main())
