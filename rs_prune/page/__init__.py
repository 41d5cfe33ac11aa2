"""Choices: pages made of the results, to be read in a browser."""
