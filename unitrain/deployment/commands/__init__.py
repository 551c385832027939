"""`unitrain deploy`, `undeploy` and `status`; `settings.py` makes options of the settings of providers."""
