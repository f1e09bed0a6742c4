"""From a folder of recordings to shards, index and manifest, by Ray Data."""
