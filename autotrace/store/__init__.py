"""Store and read records in Chroma; only this package imports chromadb."""
