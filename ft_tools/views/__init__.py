"""Everything that is drawn for people: pages, charts, markup, the terminal."""
