"""An Ignite process function, its engine and its handlers on Lightning's Trainer and on the bare loop."""
