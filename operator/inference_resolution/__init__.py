"""Which route, model and pool serve what: one pure answer for routing and for conditions."""
