"""Storages of studies: `address.py` says what an address means and opens it."""
