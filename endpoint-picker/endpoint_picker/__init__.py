"""The endpoint picker: Envoy's external processor and access-log service."""
