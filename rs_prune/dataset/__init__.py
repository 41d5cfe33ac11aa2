"""Choices: where scenes come from. One file is one option, with a YAML of the same name in conf/dataset."""
