"""The codemod engine; each adapter's ``fixers`` define the rules for its framework."""
