"""What releases of other packages mean differently: which are dangerous, which are supported, and what mends the rest.

Each difference is one function under ``@difference``, in the module that is named after the package (Lightning's and
Ignite's are in ``_compat.py`` of their adapters). ``unitrain doctor`` shows them.
"""
