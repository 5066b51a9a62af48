"""Retrieval: past traces by the meaning of their task; `autotrace.recall` is the function."""
