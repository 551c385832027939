"""A LightningModule on Ignite's engine and on the bare loop."""
