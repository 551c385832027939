"""A trained model in a file that runs without unitrain, compared with the model before it is called done."""
