"""Conversations out of logs: exports of tracing tools, chat logs, sessions of coding agents.

`made.traced_rows` is what callers use. `messages` reads a turn in the spellings of all formats;
`exports` and `sessions` find the conversations of their formats, with the technical signs that one
failed and the named signs (scores, marks) that it went well; `log` joins both and keeps what meets
the caller's condition.
"""
