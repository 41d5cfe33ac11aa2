"""Choices: what is removed."""
