"""Choices: the training loss."""
