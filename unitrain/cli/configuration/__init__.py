"""``unitrain fit``, ``validate``, ``test`` and ``predict``: runs that YAML files describe.

Start reading in ``configuration.py``: ``load`` reads files and options, ``Configuration.build`` makes the objects.
"""
