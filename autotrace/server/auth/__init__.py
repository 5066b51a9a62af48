"""API keys, the principals they identify, and their permissions."""
