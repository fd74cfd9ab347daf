"""Filters, scorers, costs, pickers and the profiles that join them; pure."""
