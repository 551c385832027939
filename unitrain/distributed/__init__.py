"""Multi-process training: ranks, collectives, launching and failure handling."""
