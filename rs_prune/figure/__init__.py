"""Choices: figures drawn from the results."""
