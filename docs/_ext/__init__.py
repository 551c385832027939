"""Builds the site: ``python -m docs._ext``, or ``make site``.

Start reading in `__main__.py`. It copies the pages of the repository to ``.site/pages``, writes those that are
generated beside them (reference, commands, gallery), runs Sphinx, and checks each link of the result.
"""
