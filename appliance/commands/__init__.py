"""Groups of commands that `appliance.cli` puts together."""
