"""The servers: REST, MCP and OTLP over the memories of tenants."""
