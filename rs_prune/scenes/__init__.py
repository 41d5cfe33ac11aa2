"""Scenes on disk: layout, decoding, splits, statistics, archives."""
