"""Health, metrics, and the appliance's own administration."""
