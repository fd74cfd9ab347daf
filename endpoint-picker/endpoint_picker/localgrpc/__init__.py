"""A gRPC server for the one client that speaks to this process through a socket file: the Envoy beside it.

It moves bytes between streams and whoever serves them, and knows no message. `extproc` and `accesslog` import it.
"""
