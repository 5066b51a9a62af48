"""Decision traces: assembled from span records, stored, recalled, read and deleted."""
