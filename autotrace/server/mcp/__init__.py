"""The MCP server, over HTTP and over standard input and output."""
