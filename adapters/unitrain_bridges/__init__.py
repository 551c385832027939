"""Runs native code of one framework on the other's engine; the only package that knows both."""
