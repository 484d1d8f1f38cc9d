"""Studies: one command each, from settings to figures."""
