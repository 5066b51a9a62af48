"""Encode any Python value as bounded, redacted JSON."""
