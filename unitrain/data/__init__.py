"""Data: loaders, batches that are identical on every backend, sharding, and resume positions.

`DataSpec`, `CombinedLoader`, `OwnBatches`, `ShardedBatches` and `vectorized` are public through
`unitrain`; the rest is private. Start reading in `sources.py`, then `batches.py`.
"""
