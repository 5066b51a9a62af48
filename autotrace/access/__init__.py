"""Who may do what: keys, and the principals that they stand for."""
