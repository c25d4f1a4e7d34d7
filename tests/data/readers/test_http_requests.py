from pathlib import Path

import pyarrow as pa

from wirebert.data.accounting import ParseStats
from wirebert.data.readers.http_requests import open_http_requests

POST = "POST http://h/a b.jsp HTTP/1.1\nHost: h\nX-Other: 1\nCookie: c\n\nid=1&x=GET\n\n"
GET = "GET http://h/ HTTP/1.1\r\nUser-Agent: U\r\n\r\n\r\n"


def test_each_request_is_a_row_whatever_the_blocks(tmp_path: Path):
    (tmp_path / "f").write_bytes((POST + GET + POST).encode())
    source = open_http_requests(tmp_path / "f", POST.encode(), "none", "f")
    assert source is not None
    for block_bytes in (30, 1 << 20):
        parse_stats = ParseStats()
        post, get, last = pa.concat_tables(source.read(block_bytes, parse_stats)).to_pylist()
        assert post == last
        assert (post["method"], post["url"], post["body"]) == ("POST", "http://h/a b.jsp", "id=1&x=GET")
        assert (post["host"], post["cookie"], post["headers"]) == ("h", "c", "X-Other: 1")
        assert (get["user_agent"], get["http_version"], get["body"]) == ("U", "HTTP/1.1", None)
        assert (parse_stats.num_rows, parse_stats.num_rejected) == (3, 0)


def test_other_text_is_no_request(tmp_path: Path):
    for head in (b"GET / HTTP/1.1\n", b"GET /,200\nHost: h\n", b"", b"method,url\nGET,/\n"):
        assert open_http_requests(tmp_path / "f", head, "none", "f") is None
