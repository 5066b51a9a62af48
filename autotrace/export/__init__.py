"""Export: from spans, by way of the spool, to records in the store."""
