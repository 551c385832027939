"""New projects, and projects that exist: ``unitrain init``, and configuration files of a framework's own command line.

Private; users call the commands. Start reading in `init.py`. The files of `templates/` are what `unitrain init` writes.
"""
