"""The machinery of pruning: gates, coupled channels, plans, surgery, cost."""
