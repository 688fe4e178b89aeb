"""What each example skill makes of input other than its sample."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "skills-examples"
SCRIPTS = {
    "csv-summary": "summarize_csv.py",
    "log-triage": "triage_log.py",
    "json-inspect": "inspect_json.py",
    "text-stats": "count_text.py",
    "invoice-check": "check_invoice.py",
    "markdown-toc": "make_toc.py",
    "config-lint": "lint_config.py",
    "subtitle-check": "check_subtitles.py",
}


class Desk:
    """A folder to write inputs into, and a way to run a skill on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, skill: str, content: str | bytes, *options: str, name: str = "input.txt") -> tuple[int, str]:
        """The exit status, and standard output followed by standard error."""
        file = self.folder / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        script = EXAMPLES / skill / "scripts" / SCRIPTS[skill]
        command = [sys.executable, "-S", str(script), str(file), *options]
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", check=False, timeout=60, cwd=self.folder
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize(("mark", "number"), [(",", "1.5"), (";", "1,5"), ("\t", "1.5"), ("|", "1.5")])
def test_csv_delimiters_are_told_apart(desk: Desk, mark: str, number: str) -> None:
    rows = [["name", "price"], ["a", number], ["b", number]]
    status, output = desk.run("csv-summary", "\n".join(mark.join(row) for row in rows))
    assert status == 0
    assert "columns: 2\n" in output
    assert "price (number): sum 3, mean 1.5, min 1.5, max 1.5" in output


def test_csv_ragged_rows_quotes_and_leading_zeros(desk: Desk) -> None:
    text = 'zip,note\n01234,"two\nlines"\n98765,x,surplus\n5\n'
    status, output = desk.run("csv-summary", text)
    assert status == 0
    assert "rows: 3\n" in output
    assert "rows of another width: 2 (first on line 4)" in output
    assert "zip (text): 3 distinct" in output


def test_csv_json_has_exact_sums_and_medians(desk: Desk) -> None:
    _, output = desk.run("csv-summary", "a\n0.1\n0.2\n0.3\n", "--json")
    (column,) = json.loads(output)["columns"]
    assert (column["sum"], column["median"], column["type"]) == ("0.6", "0.2", "number")


def test_csv_decimal_points_commas_and_grouping(desk: Desk) -> None:
    _, output = desk.run("csv-summary", "point;comma;version\n1.5;1.250,50;1.2.3\n2.250;3;4.5.6\n")
    assert "point (number): sum 3.75, " in output
    assert "comma (number): sum 1253.5, " in output
    assert "version (text): 2 distinct" in output
    _, output = desk.run("csv-summary", 'grouped,list\n"$1,250.50","1,2,3"\n"$3","4,5"\n')
    assert "grouped (number): sum 1253.5, " in output
    assert "list (text): 2 distinct" in output


def test_csv_without_header_and_with_a_bad_delimiter(desk: Desk) -> None:
    status, output = desk.run("csv-summary", "1,2\n3,4\n", "--no-header")
    assert status == 0
    assert "rows: 2\n" in output
    assert "column2 (integer): sum 6" in output
    status, output = desk.run("csv-summary", "1,2\n", "--delimiter", "ab")
    assert status == 2
    assert "--delimiter takes one character" in output


LOGS = {
    "json lines": '{"level":"error","msg":"disk full","time":"2025-01-01T10:00:00Z"}\n{"level":30,"msg":"fine"}\n',
    "syslog": "Mar  3 10:11:12 web sshd[812]: error: disk full\nMar  3 10:11:13 web kernel: no error at all\n",
    "coloured": "2025-01-01 10:00:00 \x1b[31mERROR\x1b[0m disk full\n",
    "logfmt": 'time="2025-01-01T10:00:00Z" level=error msg="disk full"\n',
    "no level": "2025-01-01 10:00:00 disk full, write failed\n",
}


@pytest.mark.parametrize("kind", LOGS)
def test_log_formats_are_understood(desk: Desk, kind: str) -> None:
    status, output = desk.run("log-triage", LOGS[kind])
    assert status == 0
    assert "errors: 1\n" in output
    assert "disk full" in output
    assert "10:" in output


def test_log_access_lines_count_by_status_and_group_by_path(desk: Desk) -> None:
    line = '10.0.0.{n} - - [10/Oct/2025:13:55:{n} -0700] "GET /cart?id={n} HTTP/1.1" {code} 23 "-" "x"\n'
    text = "".join(line.format(n=n, code=503 if n < 13 else 404 if n < 15 else 200) for n in range(10, 20))
    _, output = desk.run("log-triage", text)
    assert "errors: 3\nwarnings: 2\n" in output
    assert "error x3: 503 GET /cart\n" in output


def test_log_an_overlong_line_counts_once(desk: Desk) -> None:
    _, output = desk.run("log-triage", "ERROR first " + "x" * 100_000 + "\nINFO second\n")
    assert output.startswith("lines: 2\nerrors: 1\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,}', "line 1 column"),
        ('{"a": 1}\n{"a": 2,\n', "not valid JSON Lines"),
        ('{"a": NaN}', "NaN is not a JSON value"),
        ('{"a": 1} x', "Extra data at line 1 column 10"),
        ("[" * 300 + "]" * 300, "nested more than 200 levels"),
    ],
)
def test_json_mistakes_are_located(desk: Desk, text: str, message: str) -> None:
    status, output = desk.run("json-inspect", text)
    assert status == 2
    assert message in output


def test_json_lines_duplicate_keys_and_paths(desk: Desk) -> None:
    status, output = desk.run("json-inspect", '{"a": 1}\n\n{"a": 2, "b": null}\n')
    assert status == 0
    assert "format: JSON Lines, valid\nroot: array of 2 objects\n" in output
    assert "[].b: null, missing in 1\n" in output
    assert "duplicate keys: a\n" in desk.run("json-inspect", '{"a": 1, "a": 2}')[1]
    assert desk.run("json-inspect", '{"a": [{"b": 7}]}', "--path", "a[0].b") == (0, "7\n")
    status, output = desk.run("json-inspect", '{"a": [1]}', "--path", "a[3]")
    assert (status, output) == (2, "error: --path a[3]: there is no a[3]\n")


def test_text_abbreviations_end_no_sentence_and_scripts_other_than_latin_count(desk: Desk) -> None:
    _, output = desk.run("text-stats", "Dr. Marsh met J. Okafor. It's late... Привет, мир!\n")
    assert "words: 9 (9 distinct)\nsentences: 3\n" in output


def test_text_of_many_dots_is_done_at_once(desk: Desk) -> None:
    status, output = desk.run("text-stats", "." * 1_000_000 + "x")
    assert status == 0
    assert "words: 1 " in output


UBL = """<?xml version="1.0" encoding="UTF-8"?>
<Invoice xmlns="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2" xmlns:b="urn:b"><b:ID>U-1</b:ID>
<b:IssueDate>2025-05-01</b:IssueDate><b:DocumentCurrencyCode>EUR</b:DocumentCurrencyCode>
<b:TaxTotal><b:TaxAmount>19.00</b:TaxAmount><b:TaxSubtotal><b:TaxCategory><b:Percent>19</b:Percent></b:TaxCategory>
</b:TaxSubtotal></b:TaxTotal>
<b:LegalMonetaryTotal><b:LineExtensionAmount>100.00</b:LineExtensionAmount>
<b:TaxInclusiveAmount>119.00</b:TaxInclusiveAmount></b:LegalMonetaryTotal>
<b:InvoiceLine><b:InvoicedQuantity>4</b:InvoicedQuantity><b:LineExtensionAmount>100.00</b:LineExtensionAmount>
<b:Item><b:Name>Desk lamp</b:Name></b:Item><b:Price><b:PriceAmount>25.00</b:PriceAmount></b:Price></b:InvoiceLine>
</Invoice>"""
JSON_INVOICE = {
    "number": "J-1",
    "date": "2025-05-01",
    "due": "2025-04-01",
    "currency": "EUR",
    "iban": "DE89 3704 0044 0532 0130 01",
    "items": [{"description": "Desk lamp", "qty": 3, "unit_price": 0.1, "amount": 0.3}],
    "tax_rate": 19,
    "tax": 0.16,
    "total": 0.36,
}


def test_invoice_e_invoice_that_is_correct(desk: Desk) -> None:
    status, output = desk.run("invoice-check", UBL, "--strict")
    assert (status, output) == (0, "invoice: U-1\ndate: 2025-05-01\nlines: 1\ntotal: 119.00 EUR\nresult: correct\n")


def test_invoice_as_json_names_every_problem(desk: Desk) -> None:
    status, output = desk.run("invoice-check", json.dumps(JSON_INVOICE), "--strict")
    assert status == 1
    assert "result: 4 problems\n" in output
    for start in ("due date: 2025-04-01 is before", "tax: 19 % of 0.30 is 0.06, not 0.16", "IBAN: ", "total: "):
        assert f"\n{start}" in output


def test_invoice_with_decimal_commas_and_bars(desk: Desk) -> None:
    text = (
        "Invoice #: A-7\nDate: 3 March 2025\n| Item | Qty | Price | Amount |\n|---|---|---|---|\n"
        "| Lamp | 2 | 1.250,50 | 2.501,00 |\nTotal: 2.501,00 €\n"
    )
    status, output = desk.run("invoice-check", text, "--strict")
    assert status == 0, output
    assert output == "invoice: A-7\ndate: 2025-03-03\nlines: 1\ntotal: 2501.00 EUR\nresult: correct\n"


def test_invoice_fields_that_are_no_amount_are_named(desk: Desk) -> None:
    for value in ("lots", True, "NaN", "1e99"):
        status, output = desk.run("invoice-check", json.dumps({"items": [], "total": value}))
        assert status == 2
        assert output.startswith("error: total is not an amount: ")


def test_toc_repeated_underlined_and_linked_headings(desk: Desk) -> None:
    text = "# T\n\n## A\n\n## A\n\nB *two*\n---\n\n## [C](c.md) ##\n\n~~~\n## no\n~~~\n<!--\n## no\n-->\n- x\n---\n"
    status, output = desk.run("markdown-toc", text)
    assert status == 0
    assert output == "- [A](#a)\n- [A](#a-1)\n- [B two](#b-two)\n- [C](#c)\n"


def test_toc_output_is_stable_when_written_twice(desk: Desk) -> None:
    text = "# T\n\nIntro.\n\n## A\n\n## B\n"
    table = "<!-- toc -->\n- [A](#a)\n- [B](#b)\n<!-- /toc -->\n"
    made = desk.folder / "made.md"
    assert desk.run("markdown-toc", text, "--output", str(made))[0] == 0
    first = made.read_text()
    assert first == f"# T\n\n{table}\nIntro.\n\n## A\n\n## B\n"
    assert desk.run("markdown-toc", first, "--output", str(made))[0] == 0
    assert made.read_text() == first
    assert sorted(path.name for path in desk.folder.iterdir()) == ["input.txt", "made.md"]


def test_toc_an_output_that_cannot_be_written_is_an_error(desk: Desk) -> None:
    status, output = desk.run("markdown-toc", "# T\n", "--output", str(desk.folder / "none" / "made.md"))
    assert status == 2
    assert "cannot be written: No such file or directory" in output
    assert desk.run("markdown-toc", "# T\n", "--depth", "9")[0] == 2


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.ini", "[s]\na = 1\nA = 2\n", "line 3: s.A is set twice, first set on line 2"),
        ("a.ini", "[s]\na = 1\n[s]\nb = 2\n", "line 3: section [s] appears twice, first on line 1"),
        ("a.ini", "[s\na = 1\n", "line 1: section heading without its closing ]"),
        ("a.properties", "a=1\nb:2\na=3\n", "line 3: a is set twice, first set on line 1"),
        ("a.json", '{"a": {"b": 1, "b": 2}}', "file: b is set twice in one object"),
        ("a.json", '{"a": "<your token>"}', "file: a still holds a placeholder"),
        ("a.json", '{"a": 1,\n]', "line 2: syntax error"),
        (".env", "A='open\nB=1\n", "line 1: A has a quote that is never closed"),
        (".env", "A=1\nnonsense\n", "line 2: no = on this line"),
        ("settings", "# plain\nA=1\nB=\n", "line 3: B is empty"),
    ],
)
def test_config_mistakes_are_found(desk: Desk, name: str, text: str, problem: str) -> None:
    status, output = desk.run("config-lint", text, "--strict", name=name)
    assert status == 1
    assert "problems: 1\n" in output
    assert output.endswith(f"{problem}\n") or f"\n{problem}:" in output


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TOML needs Python 3.11")
def test_config_toml_says_where_it_breaks(desk: Desk) -> None:
    status, output = desk.run("config-lint", "a = 1\nb = \n", name="a.toml")
    assert status == 0
    assert "line 2: syntax error: Invalid value" in output


def test_config_clean_files_and_yaml(desk: Desk) -> None:
    text = "A='x # y'\nB=\"two\nlines\"\nexport C=${A} # remark\n"
    assert desk.run("config-lint", text, name="a.env") == (0, "format: env\nkeys: 3\nproblems: 0\n")
    status, output = desk.run("config-lint", "a: 1\n", name="a.yml")
    assert status == 2
    assert "YAML is not supported" in output


def test_config_values_never_appear(desk: Desk) -> None:
    text = "A=s3cret value\nA=s3cret\ns3cret\nB='s3cret\n= s3cret\nC D=s3cret\n"
    for name in ("a.env", "a.ini", "a.properties"):
        _, output = desk.run("config-lint", text, "--full", name=name)
        assert "problems: " in output
        assert "s3cret" not in output


def test_subtitles_webvtt_and_broken_cues(desk: Desk) -> None:
    text = (
        "WEBVTT\n\nintro\n00:01.000 --> 00:03.000 align:start\nHello <b>there</b>\n\n"
        "00:05.000 --> 00:04.000\nBackwards\n\n00:xx --> 00:09.000\nUnreadable\n\n00:02.000 --> 00:04.000\n\n"
    )
    status, output = desk.run("subtitle-check", text)
    assert status == 0
    assert "format: WebVTT\ncues: 3\n" in output
    for problem in (
        "line 10: the timing",
        "cue 2: ends at or before",
        "cue 3: starts before cue 2",
        "cue 3: has no text",
    ):
        assert problem in output


def test_subtitles_a_missing_blank_line_is_noticed(desk: Desk) -> None:
    text = "1\n00:00:01,000 --> 00:00:03,000\nOne\n2\n00:00:04,000 --> 00:00:06,000\nTwo\n"
    status, output = desk.run("subtitle-check", text, "--strict")
    assert status == 1
    assert "problems: 1\nline 4: a blank line is missing" in output
