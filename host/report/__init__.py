"""One page about a model on a machine, from what the commands printed as JSON."""
