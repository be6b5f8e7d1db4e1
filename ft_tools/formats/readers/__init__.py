"""One reader per kind of data file, and one table of kinds.

What callers use: `source.find_sources(path)` returns the files of a path as `Source`s, and
`source.read(source)` yields their `rows.Row`s in order, numbered from 1, each with a value or the
id of the finding that stands for it. Reading is streamed: a million rows never lie in memory.
`documents` counts texts that hold no rows.
"""
