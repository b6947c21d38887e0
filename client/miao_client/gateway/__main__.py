"""`python -m miao_client.gateway`, the same as `miao gateway`."""

import sys

from miao_client.gateway.command import main

sys.exit(main(sys.argv[1:]))
