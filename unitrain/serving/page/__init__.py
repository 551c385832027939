"""The page at ``/``, where a person tries a model and watches the service: one file, without a network."""
