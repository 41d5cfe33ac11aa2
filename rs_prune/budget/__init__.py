"""Choices: which cost is limited."""
