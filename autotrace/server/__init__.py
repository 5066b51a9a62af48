"""The servers: thin adapters of HTTP over the services. No rule lives here."""
