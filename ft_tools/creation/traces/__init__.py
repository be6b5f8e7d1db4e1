"""Conversations out of logs: tracing tools, chat logs, sessions; `made.traced_rows` is used."""
