"""Choices: in which order planning, removal and training happen."""
