"""Choices: how channels are scored; higher = keep."""
