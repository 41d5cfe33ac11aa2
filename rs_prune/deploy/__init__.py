"""Pruned nets outside of the pipeline: loading, latency."""
