"""`python -m miao_worker` is `miao worker`."""

import sys

from miao_worker.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
