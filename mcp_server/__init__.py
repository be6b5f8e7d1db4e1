"""The MCP server over `ft_tools`; knows the protocol and nothing of fine-tuning."""
