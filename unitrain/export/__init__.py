"""Exports a trained model to a file that runs without unitrain, and verifies it against the model."""
