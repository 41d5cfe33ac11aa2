"""What the HTML page is made of: curves, tables, per-class accuracies, and how it all was made."""
