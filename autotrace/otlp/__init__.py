"""OTLP: decode spans that other programs send, and export our own."""
