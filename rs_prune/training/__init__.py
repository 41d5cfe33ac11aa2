"""The machinery of training: data, task, callbacks, fit."""
