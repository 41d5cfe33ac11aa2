"""Choices: the channel-attention branch that is trained with the net."""
