"""Register the server in the configuration of coding agents; speaks no MCP and no fine-tuning."""
