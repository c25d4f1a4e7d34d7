import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pyarrow as pa
import pytest
from pyarrow import fs, parquet

from wirebert.cli.main import main
from wirebert.cluster.executors import InProcess
from wirebert.cluster.plan import plan_shards
from wirebert.cluster.remote import open_remote_flows
from wirebert.cluster.staging import CountRows, staged
from wirebert.data.flows import DataConfig, open_flows
from wirebert.data.schema.schema import FlowSchema
from wirebert.errors import DataError


@pytest.fixture(scope="module")
def store(many: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two days of Parquet, beside files that are no flows."""
    root = tmp_path_factory.mktemp("store")
    for day in (28, 29):
        folder = root / f"day=2026-11-{day}" / "sensor=a"
        folder.mkdir(parents=True)
        rows = many.slice(0, 400) if day == 28 else many.slice(400, 500)
        parquet.write_table(rows, folder / "flows.parquet", row_group_size=150)
    (root / "_shards").mkdir()
    parquet.write_table(many.slice(0, 3), root / "_shards" / "old.parquet")
    (root / "README.txt").write_text("flows")
    return root


def test_shards_of_a_store_have_the_rows_of_the_disk(store: Path, schema: FlowSchema):
    local = open_flows(store / "day=2026-11-29", schema=schema)
    flows = open_remote_flows((store / "day=2026-11-29").as_uri(), DataConfig(), schema)
    plan = plan_shards(flows, shard_rows=100)
    assert [one.num_rows for one in plan.shards] == [150, 150, 150, 50]
    counts = {one.id: one for one in InProcess().run(CountRows(flows), plan.uncounted())}
    tables: list[pa.Table] = []
    for one in plan.placed(counts):
        with staged(flows, one) as some:
            tables += some.blocks()
    assert pa.concat_tables(tables).equals(pa.concat_tables(local.blocks()))


def test_rows_of_a_store_have_no_name_in_the_folder_for_temporary_files(
    store: Path, schema: FlowSchema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    left: list[list[Path]] = []

    def opened(*given: object, **named: object) -> object:
        left.append([path for path in tmp_path.rglob("*") if path.is_file()])
        return open_flows(*given, **named)  # pyright: ignore

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("wirebert.cluster.remote.open_flows", opened)
    open_remote_flows(store.as_uri(), DataConfig(), schema)
    assert left == [[]]


def test_a_store_without_parquet_is_refused(tmp_path: Path, schema: FlowSchema):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="expected Parquet files, found none"):
        open_remote_flows(tmp_path.as_uri(), DataConfig(), schema)


def test_verdicts_of_a_store_are_those_of_the_disk(model: Path, store: Path, tmp_path: Path):
    assert main(["predict", str(model), store.as_uri(), "--out", f"{(tmp_path / 'out').as_uri()}/"]) == 0
    files = sorted((tmp_path / "out").rglob("part-*"))
    assert [path.parent.parent.name for path in files] == ["day=2026-11-28", "day=2026-11-29"]
    whole = tmp_path / "whole.parquet"
    data = [str(path) for path in sorted(store.glob("day=*"))]
    assert main(["predict", str(model), data[0], "--out", str(whole)]) == 0
    assert parquet.read_table(files[0]).drop(["file"]).equals(parquet.read_table(whole))


class Bucket(BaseHTTPRequestHandler):
    """As much of S3 as pyarrow needs: objects in a dict, listed by prefix, written whole or in parts."""

    objects: ClassVar[dict[str, bytes]] = {}
    parts: ClassVar[dict[str, dict[int, bytes]]] = {}
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "ETag": '"1"', **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def place(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        return unquote(parts.path).strip("/"), query

    def body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "aws-chunked" in self.headers.get("Content-Encoding", "") or self.headers.get(
            "x-amz-decoded-content-length"
        ):
            plain, rest = b"", data
            while rest:
                head, _, rest = rest.partition(b"\r\n")
                size = int(head.split(b";")[0], 16)
                if not size:
                    break
                plain, rest = plain + rest[:size], rest[size + 2 :]
            return plain
        return data

    def do_HEAD(self) -> None:
        key, _ = self.place()
        if key in self.objects:
            self.answer(200, self.objects[key])
        else:
            self.answer(200 if "/" not in key else 404)

    def do_GET(self) -> None:
        key, query = self.place()
        if "list-type" in query:
            bucket, prefix = key, query.get("prefix", "")
            delimiter = query.get("delimiter", "")
            names = sorted(name.partition("/")[2] for name in self.objects if name.startswith(f"{bucket}/"))
            names = [name for name in names if name.startswith(prefix)]
            folders: set[str] = set()
            if delimiter:
                folders = {
                    prefix + name[len(prefix) :].split("/")[0] + "/"
                    for name in names
                    if "/" in name[len(prefix) :]
                }
                names = [name for name in names if "/" not in name[len(prefix) :]]
            inner = "".join(
                f"<Contents><Key>{escape(name)}</Key><Size>{len(self.objects[f'{bucket}/{name}'])}</Size>"
                "<LastModified>2026-11-29T00:00:00.000Z</LastModified></Contents>"
                for name in names
            ) + "".join(
                f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders
            )
            count = len(names) + len(folders)
            self.answer(
                200,
                f"<ListBucketResult><KeyCount>{count}</KeyCount><IsTruncated>false</IsTruncated>{inner}"
                "</ListBucketResult>".encode(),
            )
            return
        if key not in self.objects:
            self.answer(404)
            return
        content = self.objects[key]
        if (span := self.headers.get("Range")) is not None:
            first, _, last = span.removeprefix("bytes=").partition("-")
            stop = int(last) + 1 if last else len(content)
            piece = content[int(first) : stop]
            self.answer(206, piece, Content_Range=f"bytes {first}-{stop - 1}/{len(content)}")
        else:
            self.answer(200, content)

    def do_PUT(self) -> None:
        key, query = self.place()
        if "uploadId" in query:
            self.parts.setdefault(key, {})[int(query["partNumber"])] = self.body()
        else:
            self.objects[key] = self.body()
        self.answer(200)

    def do_POST(self) -> None:
        key, query = self.place()
        self.body()
        if "uploads" in query:
            self.answer(
                200, b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
            )
        elif "delete" in query:
            self.answer(200, b"<DeleteResult></DeleteResult>")
        else:
            found = self.parts.pop(key, {})
            self.objects[key] = b"".join(found[number] for number in sorted(found))
            self.answer(200, b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")

    def do_DELETE(self) -> None:
        key, query = self.place()
        self.parts.pop(key, None) if "uploadId" in query else self.objects.pop(key, None)
        self.answer(204)

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


@pytest.fixture(scope="module")
def s3(store: Path) -> Iterator[str]:
    """The address of a bucket that holds the store."""
    Bucket.objects = {
        f"flows/in/{path.relative_to(store)}": path.read_bytes()
        for path in store.rglob("*")
        if path.is_file()
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_an_s3_bucket_is_read_and_written(
    model: Path, s3: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fs.S3FileSystem  # noqa: B018 -- pyarrow without S3 has none
    where = f"?endpoint_override={s3}&scheme=http&region=us-east-1&allow_bucket_creation=false"
    assert main(["predict", str(model), f"s3://flows/in{where}", "--out", f"s3://flows/out/{where}"]) == 0
    assert main(["predict", str(model), store.as_uri(), "--out", f"{tmp_path}/out/"]) == 0
    written = {key: content for key, content in Bucket.objects.items() if "/part-" in key}
    ours = sorted(written)
    assert [key.split("/")[2] for key in ours] == ["day=2026-11-28", "day=2026-11-29"]
    for key, path in zip(ours, sorted((tmp_path / "out").rglob("part-*")), strict=True):
        (tmp_path / "x.parquet").write_bytes(written[key])
        theirs = parquet.read_table(path)
        assert parquet.read_table(tmp_path / "x.parquet").drop(["file"]).equals(theirs.drop(["file"]))
