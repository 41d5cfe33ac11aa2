"""rs_prune: attention-guided structured pruning of CNNs for aerial and satellite scenes."""

__version__ = "0.1.0"
