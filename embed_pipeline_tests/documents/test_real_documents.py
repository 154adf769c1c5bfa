"""What real documents contain: text in wrappers, hidden text, pages in forms, damaged and endless files."""

import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from embed_pipeline.documents.cutting import cut_document
from embed_pipeline.documents.reading import read_document
from embed_pipeline.documents.settings import DocumentSettings, ReadingLimits
from embed_pipeline_tests.documents.document_files import write_pdf
from embed_pipeline_tests.stopwatch import fastest

_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_RESTART = '<w:vMerge w:val="restart"/>'
_MORE = (
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" '
    'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
)


def _docx(path: Path, body: str, *, change: Callable[[dict[str, bytes]], None] | None = None) -> Path:
    """A Word file with this XML as the body, its archive changed at will."""
    from docx import Document

    held = io.BytesIO()
    Document().save(held)
    with zipfile.ZipFile(held) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["word/document.xml"] = f"<w:document {_W} {_MORE}><w:body>{body}</w:body></w:document>".encode()
    if change:
        change(parts)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def _run(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'


def _above(text: str) -> str:
    return f'<w:r><w:rPr><w:vertAlign w:val="superscript"/></w:rPr><w:t>{text}</w:t></w:r>'


def _p(inner: str) -> str:
    return f"<w:p>{inner}</w:p>"


def _cell(inner: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{inner}</w:tc>"


def _text_cell(text: str) -> str:
    return _cell(_p(_run(text)))


def _row(*cells: str) -> str:
    return f"<w:tr>{''.join(cells)}</w:tr>"


def _table(*rows: list[str]) -> str:
    return f"<w:tbl>{''.join(_row(*map(_text_cell, row)) for row in rows)}</w:tbl>"


def _texts(path: Path) -> list[str]:
    document = read_document(path, path.name)
    return [document.text[block.start : block.end] for block in document.blocks]


def _reasons(path: Path) -> list[str]:
    return [problem.reason for problem in read_document(path, path.name).problems]


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (_p(_run("You pay ") + f"<w:ins>{_run('thirty')}</w:ins><w:del><w:r><w:delText>ten</w:delText></w:r></w:del>"
            + _run(" coins.")), ["You pay thirty coins."]),
        (f"<w:ins>{_p(_run('A new paragraph.'))}</w:ins>", ["A new paragraph."]),
        (_p(f"<w:moveFrom>{_run('here')}</w:moveFrom><w:moveTo>{_run('there')}</w:moveTo>"), ["there"]),
        (f"<w:sdt><w:sdtPr/><w:sdtContent>{_p(_run('Of a control.'))}</w:sdtContent></w:sdt>", ["Of a control."]),
        (_p(_run("from ") + f"<w:sdt><w:sdtContent>{_run('Monday')}</w:sdtContent></w:sdt>"), ["from Monday"]),
        (_p(f'<w:fldSimple w:instr="REF a">{_run("section 4")}</w:fldSimple>'), ["section 4"]),
        (_p(f"<w:smartTag>{_run('Vienna')}</w:smartTag><w:customXml>{_run(' city')}</w:customXml>"), ["Vienna city"]),
        (_p("<w:r><w:ruby><w:rt><w:r><w:t>kan</w:t></w:r></w:rt>"
            "<w:rubyBase><w:r><w:t>漢</w:t></w:r></w:rubyBase></w:ruby></w:r>"), ["漢"]),
        (_p("<w:r><mc:AlternateContent><mc:Choice><wps:txbx><w:txbxContent>" + _p(_run("In a box."))
            + "</w:txbxContent></wps:txbx></mc:Choice><mc:Fallback><w:t>In a box.</w:t></mc:Fallback>"
            "</mc:AlternateContent></w:r>" + _run("Beside it.")), ["Beside it.", "In a box."]),
        (_p(_run("P = ") + "<m:oMath><m:r><m:t>12</m:t></m:r></m:oMath>"), ["P = 12"]),
        (_p(_run("10") + _above("1") + _above("2") + _run("/L, 300") + _above("1)") + _run(" on the 1") + _above("st")),
         ["10^12/L, 300^1) on the 1st"]),
        (_p("<m:sSup><m:e><m:r><m:t>10</m:t></m:r></m:e><m:sup><m:r><m:t>9</m:t></m:r></m:sup></m:sSup>"), ["10^9"]),
        (_p('<w:r><w:t>one</w:t><w:tab/><w:t>two</w:t><w:br/><w:t>three</w:t></w:r>'), ["one\ttwo\nthree"]),
        (_p(_run("yes ") + '<w:r><w:sym w:font="Wingdings" w:char="F0FE"/></w:r>' + _run(" no")), ["yes ☑ no"]),
        (_table(["Mon", "", "22:10"], ["Sun", "8:00", ""]), ["Mon | | 22:10", "Sun | 8:00"]),
        (f"<w:tbl>{_row(_cell(_p(_run('Fire')), _RESTART), _text_cell('all'))}"
         f"{_row(_cell(_p(''), '<w:vMerge/>'), _text_cell('half'))}</w:tbl>", ["Fire | all", "Fire | half"]),
        (f"<w:tbl>{_row(_cell(_p(_run('out')) + _table(['in', 'side'])), _text_cell('end'))}</w:tbl>",
         ["out in | side | end"]),
        (f"<w:tbl>{_row(_cell(_p(_run('A frame.')) + _p(_run('Of two.'))))}</w:tbl>", ["A frame.", "Of two."]),
        (f"<w:tbl><w:tr><w:trPr><w:del/></w:trPr>{_text_cell('gone')}</w:tr>"
         f"{_row(_text_cell('a'), _text_cell('b'))}</w:tbl>", ["a | b"]),
    ],
)  # fmt: skip
def test_text_in_a_word_file_counts_wherever_its_reader_sees_it(tmp_path: Path, body: str, texts: list[str]) -> None:
    path = _docx(tmp_path / "a.docx", body)
    assert _texts(path) == texts and not _reasons(path)


def test_hidden_text_of_a_word_file_is_left_out_and_said(tmp_path: Path) -> None:
    hidden = "<w:r><w:rPr><w:vanish/></w:rPr><w:t>secret</w:t></w:r>"
    shown = '<w:r><w:rPr><w:vanish w:val="0"/></w:rPr><w:t> shown</w:t></w:r>'
    path = _docx(tmp_path / "a.docx", _p(_run("Plain") + hidden + shown))
    assert _texts(path) == ["Plain shown"] and _reasons(path) == ["hidden_text"]


def test_a_footnote_stands_behind_its_paragraph(tmp_path: Path) -> None:
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"

    def add_note(parts: dict[str, bytes]) -> None:
        notes = f'<w:footnote w:type="separator" w:id="0">{_p(_run("-"))}</w:footnote>'
        notes += f'<w:footnote w:id="2">{_p(_run("but not on Sundays"))}</w:footnote>'
        parts["word/footnotes.xml"] = f"<w:footnotes {_W}>{notes}</w:footnotes>".encode()
        rels = parts["word/_rels/document.xml.rels"].decode()
        rel = f'<Relationship Id="rIdF" Type="{kind}" Target="footnotes.xml"/></Relationships>'
        parts["word/_rels/document.xml.rels"] = rels.replace("</Relationships>", rel).encode()

    body = _p(_run("Open daily") + '<w:r><w:footnoteReference w:id="2"/></w:r>') + _p(_run("Closed."))
    assert _texts(_docx(tmp_path / "a.docx", body, change=add_note)) == ["Open daily", "but not on Sundays", "Closed."]


def test_styles_that_are_based_on_each_other_end(tmp_path: Path) -> None:
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{own}"><w:name w:val="{own}"/><w:basedOn w:val="{other}"/></w:style>'
        for own, other in (("A", "B"), ("B", "A"))
    )

    def circle(parts: dict[str, bytes]) -> None:
        parts["word/styles.xml"] = f"<w:styles {_W}>{styles}</w:styles>".encode()

    body = _p('<w:pPr><w:pStyle w:val="A"/></w:pPr>' + _run("text"))
    assert _texts(_docx(tmp_path / "a.docx", body, change=circle)) == ["text"]


def test_a_file_above_a_limit_is_named_unread_and_the_limit_is_a_setting(tmp_path: Path) -> None:
    def many(parts: dict[str, bytes]) -> None:
        parts.update({f"word/media/{number}.txt": b"" for number in range(100)})

    def large(parts: dict[str, bytes]) -> None:
        parts["word/media/a.bin"] = bytes(3_000_000)

    limits = ReadingLimits(unpacked_megabytes=2, archive_entries=90)
    for name, change in (("many.docx", many), ("large.docx", large)):
        path = _docx(tmp_path / name, _p(_run("text")), change=change)
        document = read_document(path, name, limits)
        assert not document.blocks and "Unpacked it has" in document.problems[0].detail
        assert [problem.reason for problem in document.problems] == ["file_too_large"]
        assert read_document(path, name).text == "text"
    (tmp_path / "a.txt").write_text("word " * 300_000, encoding="utf-8")
    (problem,) = read_document(tmp_path / "a.txt", "a.txt", ReadingLimits(file_megabytes=1)).problems
    assert problem.reason == "file_too_large" and "1.5 MB" in problem.detail


@pytest.mark.parametrize(
    ("page", "texts"),
    [
        ("<form><h1>Terms</h1><p>All of it.</p></form>", ["Terms", "All of it."]),
        ("<article><p>one</p></article><article><p>two</p></article><p>three</p>", ["one", "two", "three"]),
        ("<article class=teaser><p>more</p></article><div><h1>Real</h1><p>the long text</p></div>",
         ["more", "Real", "the long text"]),
        ("<main></main><div><p>real</p></div>", ["real"]),
        ("<main hidden><p>old</p></main><main><p>new text of today</p></main>", ["new text of today"]),
        ("<section><header><h2>Part</h2></header><p>t</p></section>", ["Part", "t"]),
        ("<h2><button>Can I?</button></h2><p>Yes.</p><button>Close</button>", ["Can I?", "Yes."]),
        ("<table><tr><td>Menu</td><td><h1>Rules</h1><table><tr><td>May</td><td>on</td></tr></table></td></tr></table>",
         ["Menu", "Rules", "May | on"]),
        ("<table><tr><th>Mon</th><td></td><td>22</td></tr></table>", ["Mon | | 22"]),
        ("<table><caption>Hours</caption><tr><td>a</td><td hidden>b</td><td>c</td></tr></table>", ["Hours", "a | c"]),
        ("<table><tr><td rowspan=2>Mon</td><td>9</td></tr><tr><td>13</td></tr><tr><td>Sun</td><td>10</td></tr></table>",
         ["Mon | 9", "Mon | 13", "Sun | 10"]),
        ("<table><tr><td colspan=2>A</td><td rowspan=2>all</td><td>1</td></tr>"
         "<tr><td>b</td><td>c</td><td>2</td></tr></table>", ["A | all | 1", "b | c | all | 2"]),
        ("<table><tr><td colspan=2 rowspan=2>A</td><td>1</td></tr><tr><td>2</td></tr></table>", ["A | 1", "A | 2"]),
        ("<table><tr><td>a</td><td>b</td><td rowspan=2>c</td></tr><tr><td>d</td></tr></table>", ["a | b | c", "d | c"]),
        ("<table><tr><td>Kün<mark>digung</mark> Donau<wbr>dampf <b>1</b>,234</td><td><p>x</p>y<br>z</td></tr></table>",
         ["Kündigung Donaudampf 1,234 | x y z"]),
        ("<h2><span>Fees</span><div>2024</div></h2><p>None.</p>", ["Fees 2024", "None."]),
        ("<p>10<sup>9</sup>/L, 300<sup><a href=#n>1</a></sup>, the 1<sup>st</sup> m<sup>2</sup></p>",
         ["10^9/L, 300^1, the 1st m2"]),
        ("<table><tr><td>5</td><td><sup>1</sup>a</td><td>10<sup>−9</sup></td></tr></table>", ["5 | 1a | 10^−9"]),
        ("<ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp></ruby>字", ["漢字"]),
        ("<p>before\0after</p><p>rest</p>", ["beforeafter", "rest"]),
        ("<p>a<span style='display: none'>x</span>b</p><dialog><p>Sure?</p></dialog>", ["ab"]),
        ("<p hidden=until-found>found</p><details><summary>Q</summary>A</details>", ["found", "Q", "A"]),
        ("<ul><li>one<ul><li>two</li></ul>three</li></ul>", ["one", "two", "three"]),
        ("<a href=x><div>in a link</div></a>tail", ["in a link", "tail"]),
        ("<header>Logo</header><p>text enough to be the page</p><footer>Imprint</footer>",
         ["text enough to be the page"]),
        ("<footer><p>nothing else</p></footer>", ["nothing else"]),
    ],
)  # fmt: skip
def test_what_a_page_shows_is_read_once(tmp_path: Path, page: str, texts: list[str]) -> None:
    path = tmp_path / "a.html"
    path.write_text(f"<html><body>{page}</body></html>", encoding="utf-8")
    assert _texts(path) == texts


def test_what_a_page_hides_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("<body><p>shown</p><p hidden>four</p><div style='display:none'>five5</div>", encoding="utf-8")
    (problem,) = read_document(path, "a.html").problems
    assert problem.reason == "hidden_text" and problem.detail.startswith("9 characters")


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("first<br>second", ["first second"]),
        ("| a<br/>b | c |\n|---|---|\n| x | y |", ["a b | c", "x | y"]),
        ("# H\n<ul><li>one</li><li>two</li></ul>\n\nafter", ["H", "one", "two", "after"]),
        ("<table>\n<tr><td>cell</td>\n\n<td>next</td></tr></table>\n\nafter", ["cell | next", "after"]),
        ("<!-- note -->\n\ntext", ["text"]),
        ("10<sup>9</sup>/L, 300<sup>[1](#n)</sup>, 5<sup></sup>0, the 1<sup>st</sup>", ["10^9/L, 300^1, 50, the 1st"]),
        ("---\n\nfirst\n\n---\n\nsecond", ["first", "second"]),
        ("+++\ntitle = 'Hours'\n+++\n\nFrom nine.", ["Hours", "From nine."]),
        ("---\n# a comment\ntitle: Hours\n---\nFrom nine.", ["Hours", "From nine."]),
    ],
)
def test_html_inside_markdown_is_read(tmp_path: Path, text: str, texts: list[str]) -> None:
    path = tmp_path / "a.md"
    path.write_text(text, encoding="utf-8")
    assert _texts(path) == texts


ZH = "保险责任包括意外伤害身故、残疾以及医疗费用，具体以保险单载明的为准。"
META = "<html><head><meta charset={}></head><body><p>{}</p></body></html>"


@pytest.mark.parametrize(
    ("content", "text", "reasons"),
    [
        (META.format("gb2312", "镕喆" + ZH).encode("gbk"), "镕喆" + ZH, []),
        (META.format("iso-8859-1", "5 € “Bâle”").encode("cp1252"), "5 € “Bâle”", []),
        (META.format("Shift_JIS", "①保険金").encode("cp932"), "①保険金", []),
        (META.format("iso-8859-1", "Zürich").encode(), "Zürich", []),
        (META.format("utf-8", "Zürich").encode("utf-16"), "Zürich", []),
        (META.format("utf-8", f"{ZH}@").encode().replace(b"@", b"\xe6"), f"{ZH}\ufffd", ["wrong_encoding"]),
        *(  # the last two are encodings of Python's and none of a page
            (META.format(name, "Zürich, café, naïve").encode("cp1252"), "Zürich, café, naïve", ["wrong_encoding"])
            for name in ("foo", "idna", "undefined")
        ),
    ],
)
def test_a_page_is_read_in_the_encoding_that_it_names_as_browsers_read_it(
    tmp_path: Path, content: bytes, text: str, reasons: list[str]
) -> None:
    (tmp_path / "a.html").write_bytes(content)
    assert (read_document(tmp_path / "a.html", "a.html").text, _reasons(tmp_path / "a.html")) == (text, reasons)


@pytest.mark.parametrize("suffix", [".txt", ".md"])
def test_one_rule_for_encodings_holds_for_documents_and_tables(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(ZH.encode("big5", "ignore") * 4)
    assert "意外" in read_document(path, path.name).text and _reasons(path) == ["wrong_encoding"]
    path.write_bytes(ZH.encode() + b"\xe6\n" + ZH.encode())
    (problem,) = read_document(path, path.name).problems
    assert problem.reason == "wrong_encoding" and "line 1: expected UTF-8 as in the rest" in problem.detail


def test_letters_that_were_lost_before_are_told(tmp_path: Path) -> None:
    for text, told in (
        ("Zürich, café, naïve".encode().decode("cp1252"), "encoded twice"),
        ("Z\ufffdrich", "1 letters"),
    ):
        (tmp_path / "a.txt").write_text(text, encoding="utf-8")
        (problem,) = read_document(tmp_path / "a.txt", "a.txt").problems
        assert problem.reason == "wrong_encoding" and told in problem.detail
    for text in ("Wie groß? Façade, señor, Ärger, Çelik", "", "Why? How? When?", "ÃO PAULO"):
        (tmp_path / "a.txt").write_text(text, encoding="utf-8")
        assert "wrong_encoding" not in _reasons(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("name", "start", "kind"),
    [
        ("a.txt", b"%PDF-1.7\n1 0 obj", "a PDF"),
        ("a.md", b"{\\rtf1\\ansi Hello", "RTF"),
        ("a.docx", b"{\\rtf1\\ansi Hello", "RTF"),
        ("a.pdf", b"\r\n<!DOCTYPE html><title>Sign in</title>", "HTML"),
        ("a.txt", b"PK\x03\x04\x14", "a zip archive"),
        ("a.html", b"From: <Saved by Blink>\r\nMIME-Version: 1.0", "MHTML"),
        ("a.pdf", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file"),
    ],
)
def test_a_file_that_is_not_what_it_is_called_is_named_and_not_read(
    tmp_path: Path, name: str, start: bytes, kind: str
) -> None:
    (tmp_path / name).write_bytes(start)
    (problem,) = read_document(tmp_path / name, name).problems
    assert problem.reason == "broken_file" and kind in problem.detail


def test_a_strict_word_file_holds_the_same_text(tmp_path: Path) -> None:
    def strict(parts: dict[str, bytes]) -> None:
        for name in parts:
            for usual, other in (
                (
                    b"schemas.openxmlformats.org/wordprocessingml/2006/main",
                    b"purl.oclc.org/ooxml/wordprocessingml/main",
                ),
                (b"schemas.openxmlformats.org/officeDocument/2006/", b"purl.oclc.org/ooxml/officeDocument/"),
            ):
                parts[name] = parts[name].replace(usual, other)

    path = _docx(tmp_path / "a.docx", _p(_run("Of the other dialect.")), change=strict)
    assert _texts(path) == ["Of the other dialect."] and not _reasons(path)


def test_the_ledger_does_not_say_where_an_object_lay_in_memory(tmp_path: Path) -> None:
    from openpyxl import Workbook

    Workbook().save(tmp_path / "a.docx")
    (problem,) = read_document(tmp_path / "a.docx", "a.docx").problems
    assert problem.reason == "broken_file" and "0x" not in problem.detail


def test_a_page_of_single_letters_is_read_by_where_they_stand(tmp_path: Path) -> None:
    lines = ["The insurer pays for fire and water", "and the excess is three hundred euro"]
    path = write_pdf(tmp_path / "a.pdf", [lines], placed=1)
    assert read_document(path, path.name).text.split() == " ".join(lines).split()
    path = write_pdf(tmp_path / "b.pdf", [lines], placed=2.5)
    assert [(p.reason, "letters stand apart" in p.detail) for p in read_document(path, path.name).problems] == [
        ("unreadable_characters", True)
    ]


def test_a_line_printed_twice_for_bold_is_one_line_and_a_cell_that_repeats_stays(tmp_path: Path) -> None:
    lines = ["The insurer pays for fire.", "The insurer pays for fire.", "20 euro", "20 euro"]
    path = write_pdf(tmp_path / "a.pdf", [lines])
    assert read_document(path, path.name).text == "The insurer pays for fire. 20 euro 20 euro"


def test_lines_that_differ_in_numbers_alone_are_body_text(tmp_path: Path) -> None:
    rates = [[f"Tariff {n}", f"You pay {90 * n} coins.", f"Your share is {25 * n} coins."] for n in range(1, 5)]
    path = write_pdf(tmp_path / "rates.pdf", rates)
    text = read_document(path, path.name).text
    assert all(line in text for page in rates for line in page) and not _reasons(path)


def test_running_lines_are_left_out_and_said_and_numbered_headings_stay(tmp_path: Path) -> None:
    topics = ["cover", "claims", "courts", "notice"]
    pages = [["ACME Terms", f"Chapter {n}", f"This is about {t}.", f"Page {n}"] for n, t in enumerate(topics, 1)]
    path = write_pdf(tmp_path / "terms.pdf", pages)
    document = read_document(path, path.name)
    assert [document.text[b.start : b.end] for b in document.blocks if b.kind == "heading"] == [
        f"Chapter {n}" for n in range(1, 5)
    ]
    assert "ACME" not in document.text and "Page" not in document.text
    (problem,) = document.problems
    assert problem.reason == "running_lines" and problem.detail.startswith("8 lines") and "ACME Terms" in problem.detail


@pytest.mark.parametrize("line", ["3", "- 3 -", "Page 3 of 12", "第3页 共12页", "3/12", "Seite 3 von 12", "p. 3"])
def test_numbers_of_pages_are_running_lines(tmp_path: Path, line: str) -> None:
    from embed_pipeline.documents.pdf_file import _PAGE_NUMBER

    assert _PAGE_NUMBER.fullmatch(line)
    assert not _PAGE_NUMBER.fullmatch(f"Tariff {line}")


def test_a_page_whose_characters_have_no_meaning_is_named_and_not_read(tmp_path: Path) -> None:
    from embed_pipeline.documents.pdf_file import _garbled

    assert _garbled("\ue001\ue002\ue003 \ue004") and _garbled("ར⋼ࢀ៕ṾḯჁ༧౭Ấᦒਜ਼፥ᥦ᭺ᲜࢽឌٴซႪ፬ᬜ" * 3)
    assert _garbled("(cid:12)(cid:44)(cid:7)") and _garbled("/g12/g44/g7")
    for real in ("Ein Satz.", "保险合同とカタカナとＡＢＣ γ and Latin ١", "", "Привет, мир", "𝐱 ∈ ℝ, α ≤ β"):
        assert not _garbled(real)


def test_one_broken_file_or_page_does_not_stop_the_others(tmp_path: Path) -> None:
    whole = write_pdf(tmp_path / "a.pdf", [["Some text."], ["More text."]]).read_bytes()
    filtered = whole.replace(b"<< /Length 54 >>", b"<< /Filter /FooDecode /Length 54 >>", 1)
    (tmp_path / "filter.pdf").write_bytes(filtered if filtered != whole else whole.replace(b"BT", b"BX", 1))
    locked = bytearray(_docx(tmp_path / "b.docx", _p(_run("text"))).read_bytes())
    at = locked.find(b"PK\x01\x02")
    while at >= 0:  # the bit that says a password is needed, in every entry
        locked[at + 8] |= 1
        at = locked.find(b"PK\x01\x02", at + 4)
    (tmp_path / "locked.docx").write_bytes(locked)
    assert "broken_file" in _reasons(tmp_path / "locked.docx")
    read_document(tmp_path / "filter.pdf", "filter.pdf")


def _cut(path: Path, settings: DocumentSettings) -> None:
    list(cut_document(read_document(path, path.name), settings, lambda texts: [len(text) for text in texts]))


@pytest.mark.parametrize(
    ("name", "unit", "count"),
    [
        ("a.txt", "保险", 50_000),
        ("a.txt", "word ", 20_000),
        ("a.txt", ".", 100_000),
        ("a.txt", "ab-\n", 25_000),
        ("a.html", "<div>", 5_000),
        ("a.html", "<b>", 5_000),
        ("a.html", "<table><tr><td>", 600),
        ("a.md", "> ", 5_000),
        ("a.md", "[", 20_000),
    ],
)
def test_work_grows_with_the_file_and_no_faster(tmp_path: Path, name: str, unit: str, count: int) -> None:
    settings = DocumentSettings(files=("a.txt",))
    seconds = []
    path = tmp_path / name
    for times in (count // 4, count):
        path.write_text(f"{unit * times}x", encoding="utf-8")
        seconds.append(fastest(lambda: _cut(path, settings), clock=time.process_time))
    assert seconds[1] < 10 * seconds[0] + 0.5  # four times the file; sixteen would be its square


@pytest.mark.parametrize(
    ("name", "content", "text", "reason"),
    [
        ("a.html", "<nav>menu</nav><main><p>the text</p></main><p>by</p>", "the text", "outside_content"),
        ("a.html", "<button aria-controls=t>Q</button><div id=t hidden>A</div>", "A", "outside_content"),
        ("a.md", "---\ntitle: Hours\n---\nFrom nine.", "Hours\n\nFrom nine.", None),
        ("a.md", f"text\n\n{'> ' * 120}deep", "text", "embedded_content"),
    ],
)
def test_what_stands_beside_the_text_is_counted(
    tmp_path: Path, name: str, content: str, text: str, reason: str | None
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_document(tmp_path / name, name).text == text
    assert _reasons(tmp_path / name) == ([reason] if reason else [])


def test_contents_and_parts_of_other_programs_in_a_word_file_are_counted(tmp_path: Path) -> None:
    gallery = '<w:docPartObj><w:docPartGallery w:val="Table of Contents"/></w:docPartObj>'
    contents = f"<w:sdt><w:sdtPr>{gallery}</w:sdtPr><w:sdtContent>{_p(_run('One 3'))}</w:sdtContent></w:sdt>"
    path = _docx(tmp_path / "a.docx", contents + _p(_run("text")) + "<w:altChunk/>")
    assert _texts(path) == ["text"] and _reasons(path) == ["outside_content", "embedded_content"]
