"""Keeps gRPC to what its documentation promises: errors alone on stderr.

Otherwise it writes a line of its own, "Got goaway", for each server that is
stopped, as each rollout does; the stream goes on elsewhere. gRPC reads the
variable when it is loaded, so this module is imported before it.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
