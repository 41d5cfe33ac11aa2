"""Choices: formats of the results table."""
