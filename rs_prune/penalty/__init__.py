"""Choices: what is added to the gradient while the dense net is trained, so that it prunes well."""
