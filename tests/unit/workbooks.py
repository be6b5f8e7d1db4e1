# ruff: noqa: E501
"""Write the smallest workbook that a reader of Excel takes."""

import zipfile
from xml.sax.saxutils import escape

TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    '<Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument'
    '.spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType='
    '"application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>'
)
RELATIONS = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
    'relationships"><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
    'relationships/{kind}" Target="{target}"/></Relationships>'
)
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
BOOK = (
    f'<?xml version="1.0"?><workbook xmlns="{MAIN}" xmlns:r="http://schemas.openxmlformats.org/'
    'officeDocument/2006/relationships"><sheets>{sheets}</sheets></workbook>'
)
RELATION = (
    '<Relationship Id="r{at}" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
    'relationships/worksheet" Target="worksheets/sheet{at}.xml"/>'
)


def write_xlsx(path, rows, *, extra_cell="", name="Data", others=None):
    """Write rows of texts and numbers; `extra_cell` is XML of one more row.

    `others` has more sheets: name -> rows.
    """
    sheets = {name: rows, **(others or {})}
    listed = "".join(
        f'<sheet name="{escape(title)}" sheetId="{at}" r:id="r{at}"/>'
        for at, title in enumerate(sheets, 1)
    )
    relations = "".join(RELATION.format(at=at) for at in range(1, len(sheets) + 1))
    root = RELATIONS.format(kind="officeDocument", target="xl/workbook.xml")
    head, tail = root.split("<Relationship Id")[0], "</Relationships>"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", TYPES)
        archive.writestr("_rels/.rels", root)
        archive.writestr("xl/workbook.xml", BOOK.format(sheets=listed))
        archive.writestr("xl/_rels/workbook.xml.rels", f"{head}{relations}{tail}")
        for at, its in enumerate(sheets.values(), 1):
            made = _sheet(its, extra_cell if at == 1 else "")
            archive.writestr(f"xl/worksheets/sheet{at}.xml", made)


def _sheet(rows, extra_cell):
    lines = []
    for number, row in enumerate(rows, 1):
        cells = "".join(
            f'<c r="{chr(65 + at)}{number}"><v>{value}</v></c>'
            if isinstance(value, int | float)
            else f'<c r="{chr(65 + at)}{number}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
            for at, value in enumerate(row)
        )
        lines.append(f'<row r="{number}">{cells}</row>')
    data = f"<sheetData>{''.join(lines)}{extra_cell}</sheetData>"
    return f'<?xml version="1.0"?><worksheet xmlns="{MAIN}">{data}</worksheet>'
