"""Set before gRPC is imported, which reads it then."""

import os

# Otherwise gRPC writes a line to stderr for each handshake that fails; `interlock.client` logs the first, with advice.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
