"""`python -m miao_client.cli`, the same as `miao`."""

import sys

from miao_client.cli import main

sys.exit(main())
