"""From a user's loader to batches that are the same on every backend, and back to the position to resume at.

`DataSpec`, `CombinedLoader`, `OwnBatches`, `ShardedBatches` and `vectorized` are public through
`unitrain`; the rest is private. Start reading in `sources.py`, then `batches.py`.
"""
