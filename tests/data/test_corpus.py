"""Small traffic files written in many ways, each with the table that it holds.

A case is the content of a file, and the answer: delimiter, names, first row, and number of rows.
What is not said is usual: UTF-8, quote `"`, no escape character, nothing before, between or after the rows.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from wirebert.data.accounting import ParseStats
from wirebert.data.config import DataConfig
from wirebert.data.files import open_file
from wirebert.data.text_encoding import detect_encoding


@dataclass(frozen=True, kw_only=True)
class Case:
    """One file and its answer."""

    text: str
    delimiter: str
    names: str | None
    """Column names, joined by `|`; None where the file has none."""
    first: str
    """The first row, joined by `|`, without blanks around values."""
    rows: int
    encoding: str = "utf-8"
    quote: str | None = '"'
    """Checked only where the answer hangs on it."""
    escape: str | None = None
    comment: str | None = None
    skip_lines: int = 0
    decimal_comma: bool = False
    set_aside: int = 0
    footer: int = 0
    comments: int = 0

    @property
    def content(self) -> bytes:
        """The bytes of the file."""
        return self.text.encode(self.encoding)


def case(text: str, delimiter: str, names: str | None, first: str, rows: int, **more: object) -> Case:
    return Case(text=text, delimiter=delimiter, names=names, first=first, rows=rows, **more)  # pyright: ignore[reportArgumentType]: each case says what is unusual about it


ONE = "\x1f"
FLOWS = "dur,proto,bytes\n1.5,tcp,10\n0,udp,20\n2.5,tcp,30\n"
NAMES, FIRST = "dur|proto|bytes", "1.5|tcp|10"


def spelled(delimiter: str, end: str = "\n") -> str:
    return FLOWS.replace(",", delimiter).replace("\n", end)


CORPUS: dict[str, Case] = {
    # Delimiters and line ends.
    "comma": case(FLOWS, ",", NAMES, FIRST, 3),
    "semicolon": case(spelled(";"), ";", NAMES, FIRST, 3),
    "tab": case(spelled("\t"), "\t", NAMES, FIRST, 3),
    "pipe": case(spelled("|"), "|", NAMES, FIRST, 3),
    "one blank": case(spelled(" "), " ", NAMES, FIRST, 3),
    "aligned with blanks": case(
        "dur   proto  bytes\n1.5   tcp       10\n0     udp       20\n2.5   tcp       30\n",
        " ",
        NAMES,
        FIRST,
        3,
    ),
    "blanks at line starts": case("  dur proto bytes\n  1.5 tcp 10\n  0 udp 20\n", " ", NAMES, FIRST, 2),
    "blanks and tabs": case("dur \tproto\tbytes\n1.5\t tcp\t10\n0\tudp \t20\n", "\t", NAMES, FIRST, 2),
    "comma and blank": case(spelled(", "), ",", NAMES, FIRST, 3),
    "pipes with blanks": case(spelled(" | "), "|", NAMES, FIRST, 3),
    "CRLF": case(spelled(",", "\r\n"), ",", NAMES, FIRST, 3),
    "CR": case(spelled(",", "\r"), ",", NAMES, FIRST, 3),
    "no line end at the end": case(FLOWS.rstrip("\n"), ",", NAMES, FIRST, 3),
    "blank lines between rows": case(FLOWS.replace("\n", "\n\n"), ",", NAMES, FIRST, 3),
    "blank lines before the header": case("\n\n" + FLOWS, ",", NAMES, FIRST, 3),
    "mixed line ends": case("dur,proto\r\n1.5,tcp\n0,udp\r\n2,tcp\n", ",", "dur|proto", "1.5|tcp", 3),
    "one column": case("payload\nGET /\nPOST /a,b\nGET /c;d\n", ONE, "payload", "GET /", 3),
    "one column of numbers": case("bytes\n10\n20\n30\n", ONE, "bytes", "10", 3),
    "semicolons beside commas in text": case(
        "uri;label\n/a,b;x\n/c,d,e;y\n/f;x\n", ";", "uri|label", "/a,b|x", 3
    ),
    "tabs beside commas in text": case(
        "uri\tlabel\n/a,b\tx\n/c,d\ty\n/e,f\tx\n", "\t", "uri|label", "/a,b|x", 3
    ),
    "times beside commas": case(
        "ts,proto\n2020-01-01 10:00:00,tcp\n2020-01-01 10:00:01,udp\n",
        ",",
        "ts|proto",
        "2020-01-01 10:00:00|tcp",
        2,
    ),
    "user agents beside commas": case(
        "agent,n\nMozilla 5.0 (X11; Linux),1\ncurl 7.1 (x; y),2\nwget 1 (a; b),3\n",
        ",",
        "agent|n",
        "Mozilla 5.0 (X11; Linux)|1",
        3,
    ),
    "log lines with blanks in quotes": case(
        '10.0.0.1 "GET / HTTP/1.1" 200\n10.0.0.2 "POST /a HTTP/1.1" 404\n10.0.0.3 "GET /b HTTP/1.0" 200\n',
        " ",
        None,
        "10.0.0.1|GET / HTTP/1.1|200",
        3,
    ),
    "caret is no delimiter": case("expr\na^b\nc^d\n", ONE, "expr", "a^b", 2),
    # Header or none.
    "no header, numbers": case("1.5,tcp,10\n0,udp,20\n", ",", None, FIRST, 2),
    "no header, words": case("tcp,http,SF\nudp,dns,SF\ntcp,smtp,S0\n", ",", None, "tcp|http|SF", 3),
    "no header, addresses": case("10.0.0.1,a\n10.0.0.2,b\n", ",", None, "10.0.0.1|a", 2),
    "no header, dates": case("2020-01-01,a,x\n2020-01-02,b,y\n", ",", None, "2020-01-01|a|x", 2),
    "header of words above words": case(
        "proto,service\ntcp,http\nudp,dns\n", ",", "proto|service", "tcp|http", 2
    ),
    "positions as names": case("0,1,2\n5,tcp,SF\n6,udp,S0\n", ",", "0|1|2", "5|tcp|SF", 2),
    "blanks around names and values": case(
        " dur , proto \n 1.5 , tcp \n 0 , udp \n", ",", "dur|proto", "1.5|tcp", 2
    ),
    "duplicate and blank names": case("a,,a\n5,x,1\n6,y,2\n", ",", "a|column_2|a_2", "5|x|1", 2),
    "row numbers without a name": case(
        "dur,proto\n1,5,tcp\n2,0,udp\n3,7,tcp\n", ",", "column_1|dur|proto", "1|5|tcp", 3
    ),
    "delimiter at line ends": case("dur,proto,\n5,tcp,\n0,udp,\n", ",", "dur|proto|column_3", "5|tcp|", 2),
    "delimiter at the end of rows only": case(
        "dur,proto\n5,tcp,\n0,udp,\n7,tcp,\n", ",", "dur|proto|column_3", "5|tcp|", 3
    ),
    # Quotes and escapes.
    "quotes around all": case('"dur","proto"\n"1.5","tcp"\n"0","udp"\n', ",", "dur|proto", "1.5|tcp", 2),
    "quoted delimiters": case('uri,label\n"/a,b",x\n"/c,d,e",y\n/f,x\n', ",", "uri|label", "/a,b|x", 3),
    "doubled quotes": case('uri,label\n"say ""hi""",x\n"a ""b"", c",y\n', ",", "uri|label", 'say "hi"|x', 2),
    "quoted line break": case('uri,label\n"a\nb",x\n"c",y\nd,x\n', ",", "uri|label", "a\nb|x", 3),
    "single quotes": case(
        "uri,label\n'/a,b',x\n'/c,d',y\n'/e,f,g',x\n", ",", "uri|label", "/a,b|x", 3, quote="'"
    ),
    "apostrophes are no quotes": case(
        "uri,label\n/it's,x\n/he's,y\n' or 1=1,x\n", ",", "uri|label", "/it's|x", 3, quote='"'
    ),
    "quotes inside unquoted text": case(
        'uri\tlabel\n/a"b\tx\n/c\ty\n"d\tz\n', "\t", "uri|label", '/a"b|x', 3, quote=None
    ),
    "escaped quotes": case(
        'uri,label\n"say \\"hi\\", you",x\n"a \\"b\\" c",y\n"d",x\n',
        ",",
        "uri|label",
        'say "hi", you|x',
        3,
        escape="\\",
    ),
    "escaped delimiters": case(
        "uri,label\n/a\\,b,x\n/c\\,d,y\n/e,x\n", ",", "uri|label", "/a,b|x", 3, escape="\\"
    ),
    "backslashes are no escapes": case(
        "path,label\nC:\\x,a\nC:\\y,b\n\\\\z,a\n", ",", "path|label", "C:\\x|a", 3, escape=None
    ),
    "blanks before quotes": case('n, uri\n1, "a, b"\n2, "c, d"\n', ",", "n|uri", "1|a, b", 2),
    "quoted blanks": case('a b\n"x y" 1\n"z w v" 2\n"q r" 3\n', " ", "a|b", "x y|1", 3),
    "quotes that are text": case('n,uri\n1,"a\n2,"b\n3,c\n4,"d\n', ",", "n|uri", '1|"a', 4, quote=None),
    "inch marks": case('disk,n\n3.5",1\n5.25",3\n"2.5,2\n', ",", "disk|n", '3.5"|1', 3, quote=None),
    "an open quote in a short table": case(
        'n,uri\n1,a\n2,"b\n3,c\n4,d\n', ",", "n|uri", "1|a", 3, set_aside=1
    ),
    "an open quote in one of two rows": case('n,uri\n1,a\n2,"b\n', ",", "n|uri", "1|a", 1, set_aside=1),
    "open quotes in two rows": case('n,uri\n1,a\n2,"b\n3,"c\n', ",", "n|uri", "1|a", 1, set_aside=2),
    "open quotes in three rows": case(
        'n,uri\n1,a\n2,"b\n3,"c\n4,"d\n5,e\n6,f\n', ",", "n|uri", "1|a", 6, quote=None
    ),
    "open quotes in all rows": case('n,uri\n"1,a\n"2,b\n', ",", "n|uri", '"1|a', 2, quote=None),
    "an open quote beside values in apostrophes": case(
        "n,txt\n1,'a,b'\n2,\"c\n3,'d,e'\n4,'f,g'\n", ",", "n|txt", "1|a,b", 4, quote="'"
    ),
    "an open quote beside apostrophes": case(
        "n,uri\n1,/it's\n\"2,/he's\n3,c\n", ",", "n|uri", "1|/it's", 2, set_aside=1
    ),
    "an open quote beside escaped delimiters": case(
        'n,uri\n1,/a\\,b\n2,/c\\,d\n"3,/e\n4,/f\n', ",", "n|uri", "1|/a,b", 3, escape="\\", set_aside=1
    ),
    "open quote among good ones": case(
        'n,uri\n1,"a,b"\n2,"b\n3,"c,d"\n4,"e,f"\n5,"g,h"\n', ",", "n|uri", "1|a,b", 4, set_aside=1
    ),
    "JSON in a field": case(
        'id,body\n1,"{""a"": 1, ""b"": 2}"\n2,"{""a"": 3}"\n', ",", "id|body", '1|{"a": 1, "b": 2}', 2
    ),
    # Lines that are no rows.
    "comments above": case(
        "# made by x\n# on monday\n" + FLOWS, ",", NAMES, FIRST, 3, comment="#", skip_lines=2
    ),
    "comments between rows": case(
        FLOWS.replace("0,udp", "# a pause\n0,udp"), ",", NAMES, FIRST, 3, comment="#", comments=1
    ),
    "header in a comment": case(
        "#dur,proto,bytes\n1.5,tcp,10\n0,udp,20\n", ",", NAMES, FIRST, 2, comment="#"
    ),
    "slashes as comments": case("// made by x\n" + FLOWS, ",", NAMES, FIRST, 3, comment="//", skip_lines=1),
    "a value that begins with a number sign": case(
        "tag,n\n#a,1\n#b,2\nc,3\n", ",", "tag|n", "#a|1", 3, comment=None
    ),
    "title": case("Flows of monday\n" + FLOWS, ",", NAMES, FIRST, 3, skip_lines=1),
    "title and blank line": case("Flows of monday\n\n" + FLOWS, ",", NAMES, FIRST, 3, skip_lines=2),
    "metadata of another width": case(
        "exported;2020-01-01\nby;me\n" + spelled(";"), ";", NAMES, FIRST, 3, skip_lines=2
    ),
    "sep line": case("sep=;\n" + spelled(";"), ";", NAMES, FIRST, 3, skip_lines=1),
    "totals": case(FLOWS + "Summary\nflows,3\n", ",", NAMES, FIRST, 3, footer=2),
    "title and totals": case(
        "Report\n" + FLOWS + "\nTotal: 3\n", ",", NAMES, FIRST, 3, skip_lines=1, footer=1
    ),
    "a row that is cut off": case(FLOWS + "7,tc", ",", NAMES, FIRST, 3, footer=1),
    "a row too long": case(FLOWS + "1,udp,5,6\n" + "2,tcp,7\n", ",", NAMES, FIRST, 4, set_aside=1),
    # Numbers.
    "decimal comma, semicolon": case(
        "dur;proto\n1,5;tcp\n0,25;udp\n", ";", "dur|proto", "1,5|tcp", 2, decimal_comma=True
    ),
    "decimal comma, tab": case(
        "dur\tproto\n1,5\ttcp\n2,0\tudp\n", "\t", "dur|proto", "1,5|tcp", 2, decimal_comma=True
    ),
    "decimal comma, blanks": case(
        "1,5 tcp 2,5\n0,5 udp 3,25\n7,5 tcp 1,5\n", " ", None, "1,5|tcp|2,5", 3, decimal_comma=True
    ),
    "numbers only, comma": case("4,2,3\n1,5,6\n7,8,9\n", ",", None, "4|2|3", 3),
    "times and numbers": case(
        "2020-01-01 10:00:00,5,6\n2020-01-01 10:00:01,7,8\n", ",", None, "2020-01-01 10:00:00|5|6", 2
    ),
    "thousands are no decimals": case("n;m\n1,500;2.5\n2,750;3.5\n", ";", "n|m", "1,500|2.5", 2),
    # Encodings.
    "byte-order mark": case("\ufeff" + FLOWS, ",", NAMES, FIRST, 3),
    "UTF-8": case("city,n\nZürich,1\nKøbenhavn,2\n", ",", "city|n", "Zürich|1", 2),
    "UTF-16": case(FLOWS, ",", NAMES, FIRST, 3, encoding="utf-16"),
    "UTF-16 without mark": case(FLOWS, ",", NAMES, FIRST, 3, encoding="utf-16-le"),
    "UTF-16 of the other order": case(FLOWS, ",", NAMES, FIRST, 3, encoding="utf-16-be"),
    "Windows-1252": case("city,n\nZürich,1\nKøln €5,2\n", ",", "city|n", "Zürich|1", 2, encoding="cp1252"),
    "Latin-1": case("city,n\nZürich\x81,1\nKöln,2\n", ",", "city|n", "Zürich\x81|1", 2, encoding="latin-1"),
    "emoji": case("msg,n\n😀 ok,1\n日本,2\n", ",", "msg|n", "😀 ok|1", 2),
    # Odd content.
    "zero bytes in a value": case("a,b\nx\0y,1\nz,2\n", ",", "a|b", "x\0y|1", 2),
    "a long field": case(
        "uri,n\n/" + "x" * 60_000 + ",1\n/y,2\n", ",", "uri|n", "/" + "x" * 60_000 + "|1", 2
    ),
    "MAC addresses": case(
        "mac,n\naa:bb:cc:dd:ee:ff,1\n00:11:22:33:44:55,2\n", ",", "mac|n", "aa:bb:cc:dd:ee:ff|1", 2
    ),
    "empty fields": case("a,b,c\n1,,\n,2,\n,,3\n", ",", "a|b|c", "1||", 3),
    "one row": case("dur,proto\n1.5,tcp\n", ",", "dur|proto", "1.5|tcp", 1),
    "one row, no header": case("1.5,tcp,7\n", ",", None, "1.5|tcp|7", 1),
}


@pytest.mark.parametrize("name", CORPUS)
def test_the_table_in_the_file_is_found(name: str, tmp_path: Path):
    case, path, parse_stats = CORPUS[name], tmp_path / "flows.csv", ParseStats()
    path.write_bytes(case.content)
    part = open_file(path, "flows.csv", DataConfig(), None)
    rows = [row for block in part.raw_blocks(1 << 20, parse_stats) for row in block.to_pylist()]
    dialect = part.dialect
    assert dialect.delimiter == case.delimiter
    assert dialect.has_header == (case.names is not None)
    if case.names is not None:
        assert "|".join(part.names) == case.names
    assert "|".join(value.strip() for value in rows[0].values()) == case.first
    assert (len(rows), parse_stats.num_rejected) == (case.rows, case.set_aside)
    assert (parse_stats.num_footer, parse_stats.num_comments) == (case.footer, case.comments)
    assert (dialect.skip_lines, dialect.comment) == (case.skip_lines, case.comment)
    assert (dialect.escape, dialect.decimal_comma) == (case.escape, case.decimal_comma)
    if case.quote != '"':
        assert dialect.quote == case.quote
    text = case.text.removeprefix("\ufeff")
    assert parse_stats.num_lines == len(re.findall(r"\r\n|\r|\n", text)) + (text[-1] not in "\r\n")
    num_breaks = sum(len(re.findall(r"[\r\n]", value)) for row in rows for value in row.values())
    assert parse_stats.num_line_breaks == num_breaks


@pytest.mark.parametrize("name", CORPUS)
def test_the_text_in_the_file_is_decoded(name: str):
    case = CORPUS[name]
    assert case.content.decode(detect_encoding(case.content, is_whole=True)).lstrip(
        "\ufeff"
    ) == case.text.lstrip("\ufeff")


@pytest.mark.parametrize(
    "name", [name for name, case in CORPUS.items() if case.rows > 1 and case.set_aside == 0]
)
def test_what_was_detected_can_be_said_and_gives_the_same(name: str, tmp_path: Path):
    path = tmp_path / "flows.csv"
    path.write_bytes(CORPUS[name].content)
    found = open_file(path, "flows.csv", DataConfig(), None).dialect
    said = DataConfig(
        delimiter=found.delimiter,
        quote=found.quote or "",
        escape=found.escape or "",
        comment=found.comment or "",
        skip_lines=found.skip_lines,
        has_header=found.has_header,
        decimal_comma=found.decimal_comma,
        encoding=found.encoding,
    )
    assert open_file(path, "flows.csv", said, None).dialect == found


def test_the_corpus_is_large_enough():
    assert len(CORPUS) >= 60
