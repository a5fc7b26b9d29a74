"""Milvus Lite as a server for several processes, with a search of its own."""
