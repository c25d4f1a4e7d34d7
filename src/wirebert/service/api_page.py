"""The page at `/docs`: the OpenAPI document as HTML, without script."""

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_Json = Mapping[str, Any]


def api_page(document: _Json) -> bytes:
    """The page for a document of `openapi.document`."""
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    links = "".join(
        f'<li><a href="#{_anchor(path)}"><code>{method} {escape(path)}</code></a> '
        f"{escape(operation['summary'])}</li>"
        for method, path, operation in operations
    )
    body = "".join("".join(_operation(*operation)) for operation in operations)
    answer = document["components"]["schemas"].get("Verdicts")
    fields = "" if answer is None else _fields(answer["properties"]["flows"]["items"])
    title, version = escape(document["info"]["title"]), escape(document["info"]["version"])
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{title}: API</title>\n<link rel="icon" href="data:,">\n'
        '<link rel="stylesheet" href="/front.css">\n</head>\n<body>\n'
        f'<header>\n<h1>{title} API</h1>\n<p class="faint">Version {version}. '
        '<a href="/">The page to try it</a>, <a href="/openapi.json">OpenAPI document</a>. Where keys are '
        "set, only requests with a key see all of this.</p>\n</header>\n"
        f'<main>\n<ul class="paths">{links}</ul>\n{body}{fields}</main>\n</body>\n</html>\n'
    ).encode()


def _words(text: str) -> str:
    """The text, what stands between backquotes as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _anchor(path: str) -> str:
    return path.strip("/").replace("/", "-").replace(".", "-")


def _operation(method: str, path: str, operation: _Json) -> Iterator[str]:
    yield f'<section id="{_anchor(path)}">\n<h2><code>{method} {escape(path)}</code></h2>\n'
    yield f"<p>{escape(operation['summary'])}</p>\n"
    if "description" in operation:
        yield f'<p class="faint">{_words(operation["description"])}</p>\n'
    for parameter in operation.get("parameters", ()):
        allowed = ", ".join(f"<code>{escape(str(value))}</code>" for value in parameter["schema"]["enum"])
        name, meaning = escape(parameter["name"]), _words(parameter["description"])
        yield f"<p><code>?{name}=</code> {allowed}: {meaning}</p>\n"
    if "requestBody" in operation:
        yield "<h3>Body</h3>\n"
        yield from _contents(operation["requestBody"]["content"])
    for status, response in operation["responses"].items():
        yield f"<h3>{status}: {escape(response['description'])}</h3>\n"
        for name, header in response.get("headers", {}).items():
            yield f"<p><code>{escape(name)}</code>: {escape(header['description'])}</p>\n"
        yield from _contents(response["content"])
    yield "</section>\n"


def _contents(contents: _Json) -> Iterator[str]:
    for media_type, content in contents.items():
        yield f'<p class="faint"><code>{escape(media_type)}</code></p>\n'
        if (example := content.get("example")) is not None:
            text = example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
            yield (
                f'<pre tabindex="0" aria-label="Example, {escape(media_type)}">'
                f"<code>{escape(text.rstrip())}</code></pre>\n"
            )


def _fields(schema: _Json) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_kind(described))}</td></tr>"
        for name, described in schema["properties"].items()
    )
    return (
        f'<section id="fields">\n<h2>Fields of a verdict</h2>\n<p>{escape(schema["description"])}</p>\n'
        '<div class="scroll" tabindex="0" role="region" aria-label="Fields of a verdict"><table>'
        f"<thead><tr><th>field</th><th>value</th></tr></thead><tbody>{rows}</tbody></table></div>\n</section>\n"
    )


def _kind(schema: _Json) -> str:
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    bounds = f" in [{schema['minimum']}, {schema['maximum']}]" if "maximum" in schema else ""
    return " or ".join(kinds) + bounds
