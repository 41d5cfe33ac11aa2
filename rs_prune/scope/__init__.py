"""Choices: which channels are ranked against which."""
