"""``unitrain doctor``: what is installed, how it is supported, and what mends the rest."""
