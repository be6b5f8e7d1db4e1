"""The client for servers with the OpenAI chat completions API: budget, retries, cache."""
