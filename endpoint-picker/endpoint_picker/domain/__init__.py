"""Request, endpoint, usage and errors in the picker's own words."""
