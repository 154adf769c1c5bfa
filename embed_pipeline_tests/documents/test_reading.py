"""Every kind of file as text: what stands in it, where, and what could not be read."""

from pathlib import Path

import pytest

from embed_pipeline.documents.document import Document
from embed_pipeline.documents.headings import heading_level, heading_levels
from embed_pipeline.documents.reading import read_document
from embed_pipeline.documents.text_file import join_lines
from embed_pipeline_tests.documents.document_files import write_docx, write_pdf

EXAMPLES = Path(__file__).parents[2] / "data"


def _read(path: Path, content: str | bytes | None = None) -> Document:
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    document = read_document(path, path.name)
    ends = [0]
    for block in document.blocks:
        assert ends[-1] <= block.start < block.end <= len(document.text)
        assert document.text[block.start : block.end].strip() == document.text[block.start : block.end]
        ends.append(block.end)
    return document


def _shown(document: Document) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(b.kind, document.text[b.start : b.end], b.headings) for b in document.blocks]


def _reasons(document: Document) -> list[tuple[str, str]]:
    return [(problem.reason, problem.place) for problem in document.problems]


def test_markdown_gives_headings_paragraphs_lists_tables_and_code(tmp_path: Path) -> None:
    text = """---
title: front matter
---
# One

A *paragraph* with a [link](http://x.y) and `code`
on two lines. <!-- a comment --> ![picture](p.png)

- first item
- second item

Two
---

| a | b |
|---|---|
| 1 | 2 |

```
x = 1
```

> quoted

## Below two

end
"""
    assert _shown(_read(tmp_path / "a.md", text)) == [
        ("heading", "One", ("One",)),
        ("text", "A paragraph with a link and code on two lines.", ("One",)),
        ("list", "first item", ("One",)),
        ("list", "second item", ("One",)),
        ("heading", "Two", ("One", "Two")),
        ("table", "a | b", ("One", "Two")),
        ("table", "1 | 2", ("One", "Two")),
        ("text", "x = 1", ("One", "Two")),
        ("text", "quoted", ("One", "Two")),
        ("heading", "Below two", ("One", "Below two")),
        ("text", "end", ("One", "Below two")),
    ]


def test_a_page_is_its_main_part_without_what_every_page_repeats(tmp_path: Path) -> None:
    html = """<html><head><title>Cards - Bank</title><style>p {}</style></head><body>
<nav><a href="/">Home</a></nav><header>Logo</header>
<main><h1>Cards</h1><p>A card comes<br>by <b>post</b>.</p><script>x()</script>
<section><h2>Fees</h2>loose text<ul><li>none</li><li><p>at all</p></li></ul>
<table><tr><th>What</th><th>Price</th></tr><tr><td>card</td><td>0</td></tr></table>
<dl><dt>term</dt><dd>meaning</dd></dl><!-- hidden --></section><aside>Related</aside></main>
<footer>Imprint</footer></body></html>"""
    assert _shown(_read(tmp_path / "a.html", html)) == [
        ("heading", "Cards", ("Cards",)),
        ("text", "A card comes by post.", ("Cards",)),
        ("heading", "Fees", ("Cards", "Fees")),
        ("text", "loose text", ("Cards", "Fees")),
        ("list", "none", ("Cards", "Fees")),
        ("text", "at all", ("Cards", "Fees")),
        ("table", "What | Price", ("Cards", "Fees")),
        ("table", "card | 0", ("Cards", "Fees")),
        ("list", "term", ("Cards", "Fees")),
        ("list", "meaning", ("Cards", "Fees")),
    ]


def test_the_title_of_a_page_is_its_heading_where_there_is_none(tmp_path: Path) -> None:
    page = _read(tmp_path / "a.htm", "<title>Opening hours</title><p>From nine.</p>")
    assert _shown(page) == [
        ("heading", "Opening hours", ("Opening hours",)),
        ("text", "From nine.", ("Opening hours",)),
    ]


def test_a_word_file_gives_styles_as_levels_and_a_merged_cell_once(tmp_path: Path) -> None:
    found = _shown(_read(write_docx(tmp_path / "a.docx")))
    inside = ("Terms", "Chapter one", "What is insured")
    assert found[1:] == [
        ("text", "Before the first chapter.", ("Terms",)),
        ("heading", "Chapter one", ("Chapter one",)),
        ("heading", "What is insured", ("Chapter one", "What is insured")),
        ("text", "The house is insured.", inside[1:]),
        ("list", "The garden shed", inside[1:]),
        ("table", "Damage | Share | Limit", inside[1:]),
        ("table", "Fire | all", inside[1:]),
        ("heading", "Chapter two", ("Chapter two",)),
        ("text", "What follows.", ("Chapter two",)),
    ]
    assert "every page" not in str(found)


def test_a_pdf_gives_pages_paragraphs_and_numbered_headings(tmp_path: Path) -> None:
    pages = [
        [
            "Item 1. Business",
            "The company sells many things to many people in all coun-",
            "tries of the world.",
            "Soon more.",
        ],
        ["It has shops.", "Item 1A. Risk Factors", "There are risks."],
    ]
    document = _read(write_pdf(tmp_path / "a.pdf", pages))
    shown = [(document.text[b.start : b.end], b.headings[-1:], b.page) for b in document.blocks]
    assert (
        "The company sells many things to many people in all countries of the world.",
        ("Item 1. Business",),
        1,
    ) in [(text.removesuffix(" Soon more."), path, page) for text, path, page in shown]
    assert ("It has shops.", ("Item 1. Business",), 2) in shown
    assert ("There are risks.", ("Item 1A. Risk Factors",), 2) in shown


def test_running_lines_and_page_numbers_are_left_out(tmp_path: Path) -> None:
    stories = ["apples", "bread", "cheese", "dates", "eggs", "figs"]
    pages = [["Annual report 2022", f"This is what became of {story}.", str(n)] for n, story in enumerate(stories, 1)]
    document = _read(write_pdf(tmp_path / "a.pdf", pages))
    assert [document.text[b.start : b.end] for b in document.blocks] == [
        f"This is what became of {story}." for story in stories
    ]


def test_the_lines_of_a_table_of_contents_are_no_headings(tmp_path: Path) -> None:
    contents = [f"Item {n}. Title of a part {10 * n}" for n in range(1, 12)]
    document = _read(write_pdf(tmp_path / "a.pdf", [contents, ["Item 1. Title of a part", "Its text."]]))
    headings = [document.text[b.start : b.end] for b in document.blocks if b.kind == "heading"]
    assert headings == ["Item 1. Title of a part"]


def test_a_page_without_text_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    document = _read(write_pdf(tmp_path / "a.pdf", [["Some text."], [], ["More text."]]))
    assert _reasons(document) == [("page_without_text", "page 2")]
    assert "Some text." in document.text and "More text." in document.text


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.pdf", b"%PDF-1.4 nonsense", "broken_file"),
        ("a.docx", b"PK\x03\x04 nonsense", "broken_file"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 and more", "encrypted_file"),
        ("a.odt", b"anything", "unsupported_file"),
        ("a.txt", b"\x00\x01\x02\xff\xfe\x81" * 50, "wrong_encoding"),
        ("a.txt", b"  \n \n", "no_text"),
        ("a.md", b"", "no_text"),
        ("a.html", b"<html><body><p> </p></body></html>", "no_text"),
    ],
)
def test_what_cannot_be_read_says_why_and_has_no_text(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    document = _read(tmp_path / name, content)
    assert ([found for found, _ in _reasons(document)], document.text, document.blocks) == ([reason], "", ())
    assert all(len(problem.detail) > 10 for problem in document.problems)


def test_a_scan_and_a_file_with_a_password_say_so(tmp_path: Path) -> None:
    scan = _read(write_pdf(tmp_path / "scan.pdf", [[], []]))
    assert _reasons(scan) == [("no_text", "")] and "OCR" in scan.problems[0].detail
    secret = _read(write_pdf(tmp_path / "secret.pdf", [["hidden"]], password="x"))
    assert _reasons(secret) == [("encrypted_file", "")] and "hidden" not in secret.text


def test_a_truncated_pdf_never_raises(tmp_path: Path) -> None:
    whole = write_pdf(tmp_path / "a.pdf", [["Some text."] * 5] * 3).read_bytes()
    for share in (0.2, 0.5, 0.8, 0.95):
        document = _read(tmp_path / "cut.pdf", whole[: int(share * len(whole))])
        assert document.problems or document.text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_unicode_with_and_without_its_mark_is_read_silently(tmp_path: Path, encoding: str) -> None:
    document = _read(tmp_path / "a.txt", "第一条 等待期为九十日。\r\n\r\nSecond – paragraph.".encode(encoding))
    assert document.problems == ()
    assert [document.text[b.start : b.end] for b in document.blocks] == [
        "第一条 等待期为九十日。",
        "Second – paragraph.",
    ]


def test_another_encoding_is_read_where_it_is_plain_and_said(tmp_path: Path) -> None:
    text = "保险合同是投保人与保险人约定保险权利义务关系的协议。投保人是指与保险人订立保险合同的人。" * 5
    document = _read(tmp_path / "a.txt", text.encode("gb18030"))
    assert document.text == text and _reasons(document) == [("wrong_encoding", "")]
    assert "gb" in document.problems[0].detail.casefold()


def test_a_missing_file_is_an_error_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_document(tmp_path / "a.md", "a.md")


def test_radicals_that_browsers_write_become_characters_again(tmp_path: Path) -> None:
    assert _read(tmp_path / "a.txt", "第⼀条 ⻘年⼈的⻓期合同").text == "第一条 青年人的长期合同"


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("第一编 总则", 1),
        ("第二章 保险合同", 2),
        ("第三节 财产保险合同", 3),
        ("PART II", 1),
        ("Item 7A. Quantitative Disclosures", 2),
        ("1.2 Scope", 3),
        ("RISK FACTORS", 3),
        ("Chapter 3 of the act says that everything is different when it rains and nobody is at home to see it.", None),
        ("第二章规定的期限,自合同成立之日起算。", None),
        ("12 people came", None),
        ("TOTAL ASSETS 400 500", None),
        ("10 Mieten 400,5 (500)", None),
        ("Article 6 of Regulation 2016/679", None),
        ("Section 4 does not apply to you.", None),
        ("Article 3, paragraph 2, the board", None),
        ("Artikel 6, Absatz 1 der Verordnung", None),
        ("Chapter 3, Safety at Work applies.", None),
        ("Annexe B, Barème des droits", 2),
        ("Section 4. Powers of the board.", 3),
        ("TITRE II DES ABSENTS", 1),
        ("第二章规定的责任", None),
        ("A sentence.", None),
        ("", None),
    ],
)
def test_a_line_without_markup_is_a_heading_by_its_number_or_its_capitals(line: str, level: int | None) -> None:
    assert heading_level(line) == level


@pytest.mark.parametrize(
    "lines",
    [
        ["1. Open the app", "2. Tap Settings", "3. Choose Logout"],
        ["1. Open the app", "", "2. Tap Settings", "", "You are done."],
        ["1. Open the app.", "2. Tap Settings", "3. Choose Logout."],
        ["1. Open the app on the", "phone that you bought", "2. Tap Settings", "You are done."],
        ["10 Mieten 400", "20 Personal 900"],
        ["1. 身份证复印件", "2. 银行卡复印件"],
        ['IS PROVIDED "AS IS", EXPRESS OR', "IMPLIED, AND OF MERCHANTABILITY,", "AND IN NO EVENT SHALL WE", "PAY."],
        ["WE DO NOT PAY FOR COSMETIC SURGERY", "WE DO NOT PAY FOR DENTAL IMPLANTS", "", "We pay for the rest."],
        ["The controller shall process the data as laid down in", "Article 6 (1) and shall", "keep a record."],
        ["and shall follow within", "30 Tage ab Erhalt der Ware", "or else pay."],
        ["投保人应当在保险事故发生后", "15 日内通知保险人", "否则保险人不承担责任。"],
        ["4.1 The buyer pays.", "", "4.2 The buyer shall pay the price within thirty days by", "Bank Transfer."],
        ["4.1 The buyer pays within thirty", "days.", "", "4.2 The buyer shall also pay by", "Bank Transfer."],
        ["The authors provide the software", "AS IS AND WITHOUT", "ANY WARRANTY WHATSOEVER", "of any kind."],
        ["WE DO NOT PAY FOR COSMETIC SURGERY", "WE DO NOT PAY FOR DENTAL IMPLANTS", "We pay for the rest."],
        ["AND LIABILITY IS EXCLUDED", "AS FAR AS IT MAY", "BE BY LAW", "Ask us in case of doubt."],
        ["The account may be charged with the costs of it not before", "30 DAYS AFTER THE LOSS OF THE CARD", "Any."],
        ["THE CLAIM IS DUE", "30 DAYS AFTER LOSS", "We pay then."],
        ["Exhibit 32.1 tells CERTIFICATIONS OF CHIEF FINANCIAL", "OFFICER IN ACCORDANCE WITH THE ACT", "I certify."],
        ["- CACHE_DIR", "- HOME_DIR AS WELL", "If both are missing, none is kept."],
        ["ACME INSURANCE LIMITED", "LONDON, UNITED KINGDOM", "Telephone at any time"],
        ["CASH IN HAND", "TOTAL ASSETS", "1 2 3"],
        ["The account may be charged with the costs of it not before", "30 Days after the Loss of the Card", "Any."],
    ],
)
def test_a_list_a_notice_and_a_wrapped_sentence_have_no_headings(lines: list[str]) -> None:
    assert heading_levels(lines) == [None] * len(lines)


@pytest.mark.parametrize(
    ("lines", "levels"),
    [
        (["1. Fees", "The fee is five euro", "2. Limits", "The limit is nine euro"], [2, None, 2, None]),
        (["1. Duties", "", "1.1 Of the insurer", "It pays.", "2. Courts", "Any."], [2, None, 3, None, 2, None]),
        (["1. Scope", "2. Courts", "", "1. Scope", "", "All of it."], [None, None, None, 2, None, None]),
        (["3. You send", "", "1. A copy", "2. A card", "", "4. Courts", "Any."], [2, None, None, None, None, 2, None]),
        (["CHAPTER X", "FINAL PROVISIONS", "Article 95", "Codes of conduct", "1. The"], [2, 3, 4, None, None]),
        (["Item 1. Business", "Item 1A. Risk Factors", "", "PART I", "Item 1. Business", "We sell."],
         [2, 2, None, 1, 2, None]),
        (["Total 4 5", "Item 3. Legal Proceedings", "None", "Item 4. Mines"], [None, 2, None, 2]),
        (["第一章 总则", "第一条 为了规范保险活动，制定本法。", "第二章 保险合同", "第一节 一般规定"], [2, None, 2, 3]),
        (["TERMS OF SERVICE", "", "GENERAL PROVISIONS", "", "These hold."], [0, None, 3, None, None]),
        (["GETTING STARTED", "Install the app from the store", "CREATING AN ACCOUNT", "Enter your mail address"],
         [3, None, 3, None]),
        (["CLOSING AN ACCOUNT", "- Empty the account", "- Write to the service", "CONTACTING US", "Call."],
         [3, None, None, 3, None]),
        (["2. Services", "The supplier provides the services that are in the annex",
          "3. Fees and Methods of Payment", "The customer pays."], [2, None, 2, None]),
        (["1. Tests", "The bodies are to fulfil what is said in chapter III, section",
          "2. Bodies that do not pass the Tests", "Any."], [2, None, None, None]),
        (["3.1 Heat", "", "3.1.1 Output Voltage", "", "12 V.", "", "3.2 Cooling", "", "3.3 Noise", "", "Below 40 dB."],
         [3, None, 4, None, None, None, 3, None, 3, None, None]),
        (["4. Termination", "4.1 Term", "the agreement runs for a year from its date.", "4.2 Notice Period",
          "the period of notice is three months to a quarter.", "4.3 Severance", "None."],
         [2, 3, None, 3, None, 3, None]),
        (["Sales rose.", "CORPORATE GOVERNANCE", "BOARD OF DIRECTORS", "The board has nine members.", "BOARD PAY"],
         [None, 3, 4, None, 3]),
        (["EMPLOYEE LEAVE POLICY", "", "1. Purpose", "It says who may go.", "MARKET RISK"], [0, None, 2, None, 3]),
        (["ACME CORPORATION", "TRAVEL POLICY", "", "PART I", "1. Purpose"], [-1, 0, None, 1, 2]),
        (["ACME CORPORATION", "", "TRAVEL POLICY", "", "1. Purpose", "It says who."], [-1, None, 0, None, 2, None]),
        (["HUMAN RESOURCES", "LEAVE POLICY", "They have 25 days.", "1. Scope"], [3, 4, None, 2]),
        (["Chapter 3, Safety", "Wear a helmet.", "Article 3, Scope", "All.", "Annex A, List of Forms"],
         [2, None, 4, None, 2]),
    ],
)  # fmt: skip
def test_headings_of_statutes_reports_and_contracts_stay_headings(lines: list[str], levels: list[int | None]) -> None:
    assert heading_levels(lines) == levels


@pytest.mark.parametrize("suffix", [".txt", ".pdf"])
def test_numbered_steps_are_text_in_a_text_file_and_in_a_pdf(tmp_path: Path, suffix: str) -> None:
    lines = ["How to reset it.", "1. Hold the button", "2. Release it", "3. Wait for the light", "It is done."]
    path = tmp_path / f"a{suffix}"
    document = _read(write_pdf(path, [lines])) if suffix == ".pdf" else _read(path, "\n".join(lines))
    assert " ".join(document.text.split()) == " ".join(lines)
    assert all(block.kind != "heading" for block in document.blocks)


@pytest.mark.parametrize("suffix", [".txt", ".pdf"])
def test_a_title_in_capitals_stands_above_the_sections_and_is_no_text(tmp_path: Path, suffix: str) -> None:
    lines = ["EMPLOYEE LEAVE POLICY", "1. Purpose", "It says who may go.", "2. Scope", "All employees."]
    path = tmp_path / f"a{suffix}"
    document = _read(write_pdf(path, [lines])) if suffix == ".pdf" else _read(path, "\n".join(lines))
    assert [(text, path) for kind, text, path in _shown(document) if kind == "text"] == [
        ("It says who may go.", ("EMPLOYEE LEAVE POLICY", "1. Purpose")),
        ("All employees.", ("EMPLOYEE LEAVE POLICY", "2. Scope")),
    ]


def test_lines_are_joined_as_their_language_wants() -> None:
    assert join_lines(["被保险人在等待", "期内确诊"]) == "被保险人在等待期内确诊"
    assert join_lines(["in-", "surance is a", "  contract"]) == "insurance is a contract"
    assert join_lines(["the EU-", "Commission"]) == "the EU- Commission"


def test_the_shipped_policy_reads_as_its_chapters_and_articles() -> None:
    document = _read(EXAMPLES / "policy_zh" / "documents" / "critical_illness_terms.docx")
    chapters = [b for b in document.blocks if b.kind == "heading" and len(b.headings) == 1]
    assert len(chapters) == 9 and document.problems == ()
