"""`python -m miao_service` runs a front."""

import sys

from miao_service.cli import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
