"""Storages of studies: `address.py` parses an address and opens its storage; `at_once.py` adds trials in one write."""
