"""Where resources, endpoints and their metrics come from."""
