"""Rewrites scripts: the engine of the codemod. What a framework's names become is in each adapter's ``fixers``."""
