"""Store span records from the spools of every process."""
