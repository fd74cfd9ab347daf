"""The picker's own pages: health, metrics and the debug state; for wiring only."""
