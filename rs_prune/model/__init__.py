"""Choices: how a net is built; conf/model holds the presets."""
