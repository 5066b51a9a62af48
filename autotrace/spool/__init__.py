"""Span records on disk, between the program that recorded them and the store."""
