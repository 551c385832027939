"""``unitrain bench-serve``: measures a service from the client's side, with the standard library alone."""
