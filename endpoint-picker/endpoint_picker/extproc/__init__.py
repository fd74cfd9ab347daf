"""The external-processing protocol: a session without sockets and its gRPC server."""
