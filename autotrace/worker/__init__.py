"""Store the span records of all processes from their spools."""
