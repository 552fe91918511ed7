"""What the single-file executable runs: the command line, or, where control starts one, a media worker.

Inside it there is no `python -m`: the executable starts itself again and is told by its first argument.
"""

from __future__ import annotations

import sys

from control.worker_process import FROZEN_WORKER

if __name__ == "__main__":
    if sys.argv[1:2] == [FROZEN_WORKER]:
        from gateway.worker import main as worker_main

        worker_main(sys.argv[2:])
    else:
        from control.cli import main

        sys.exit(main())
