"""Order the times of a table."""


def sortable(time: str) -> str:
    """Return a time so that later ones sort behind: ISO as it is, day first turned around.

    >>> sortable("31.12.2025") < sortable("1.1.2026") < sortable("2026-11-01")
    True
    """
    day, _, rest = time.partition(" ")
    pieces = day.replace("/", ".").split(".")
    if len(pieces) == 3 and all(piece.isdigit() for piece in pieces) and len(pieces[2]) == 4:
        return f"{pieces[2]}-{int(pieces[1]):02d}-{int(pieces[0]):02d} {rest}"
    return f"{int(time):020d}" if time.isdigit() else time
