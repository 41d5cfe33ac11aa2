"""Records, the cache of dense nets, statistics."""
