"""A small Django application as a team would run it in production, for the gateway to stand in front of."""
