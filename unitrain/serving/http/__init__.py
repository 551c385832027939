"""Requests and responses: limits, routes and what is common to all protocols.

Start reading in `app.py`.
"""
