# ruff: noqa: RUF001 (texts in many languages)
import sys

import pytest

from ragkit.documents import SourceFile, load_file
from ragkit.documents.mail.reader import read_mail
from ragkit.documents.mail.texts import calendar_text, unflow
from ragkit.errors import DocumentError

HEAD = "Subject: Trial\nMIME-Version: 1.0\n"
CUT = "the end of its last part is missing; is the file complete?"
LONG = "The alloy melts at 900 degrees, as the second series of trials in the large furnace shows."


def _part(content, kind="text/plain; charset=utf-8", *headers):
    return "".join(f"{line}\n" for line in (f"Content-Type: {kind}", *headers, "", content))


def _multi(kind, *parts, mark="=m"):
    """Return a multipart; a mark may be inside another one only if it differs."""
    body = "".join(f"--{mark}\n{part}\n" for part in parts)
    return f'Content-Type: multipart/{kind}; boundary="{mark}"\n\n{body}--{mark}--\n'


def _read(mail, **options):
    data = mail if isinstance(mail, bytes) else mail.encode()
    return read_mail(data, "a.eml", **options)


def _whys(extract):
    return [loss.why for loss in extract.losses]


def _html(text):
    return _part(f"<p>{text}</p>", "text/html; charset=utf-8")


STUB = "Please view this message in a program that shows HTML."


@pytest.mark.parametrize(
    ("plain", "html", "text", "format_", "whys"),
    [
        (LONG, LONG, LONG, "eml", []),
        (f"{LONG}\nMore.", LONG, f"{LONG}\nMore.", "eml", []),
        (STUB, " ".join(f"word{i}" for i in range(60)), None, "markdown", []),
        (STUB, LONG, LONG, "markdown", ["its versions differ"]),
        (LONG, "<img src='cid:x'>", LONG, "eml", []),
        ("", LONG, LONG, "markdown", []),
        (" \n", LONG, LONG, "markdown", []),
        ("合金の融点は高い。", "合金の<b>融点</b>は<br>高い。", "合金の融点は高い。", "eml", []),
    ],
)
def test_mail_when_it_has_two_versions_then_that_with_the_content_is_read(
    plain, html, text, format_, whys
):
    versions = [_part(plain), _html(html)]
    for parts in (
        versions,
        versions[::-1],
        [versions[0], _multi("related", versions[1], mark="r")],
    ):
        extract = _read(HEAD + _multi("alternative", *parts))
        assert extract.text.split() == (text or html).split()
        assert extract.metadata == {"format": format_}
        assert _whys(extract) == whys


def test_mail_when_it_has_several_texts_then_all_are_read_in_order():
    inner = _multi("alternative", _part("two"), _html("two"), mark="i")
    related = _multi("related", _html("three"), _part("x", "image/png"), mark="r")
    shown = _part("four", "text/plain", "Content-Disposition: inline; filename=notes.txt")
    extract = _read(HEAD + _multi("mixed", _part("one"), inner, related, shown, _part("five")))
    assert extract.text == "one\n\ntwo\n\nthree\n\nfour\n\nfive"
    assert [loss.what for loss in extract.losses] == ["a.eml: image/png"]


def test_mail_when_it_has_attachments_then_each_is_a_loss():
    kinds = ("text/plain", "text/csv", "application/pdf", "application/ms-tnef", "x/y; name=b.bin")
    attached = "Content-Disposition: attachment; filename=a.x"
    files = [_part("secret", kind, attached if "/y" not in kind else "X: y") for kind in kinds]
    files.append(_part("a,b", "text/csv; name=t.csv"))
    files.append(_part("x", "application/pgp-signature"))
    encoded = 'Content-Disposition: attachment; filename="=?utf-8?B?w7wucGRm?="'
    files.append(_part("x", "application/pdf", encoded))
    extract = _read(HEAD + _multi("mixed", _part("body"), *files))
    assert extract.text == "body"
    names = ["a.x", "a.x", "a.x", "a.x", "b.bin", "t.csv", "ü.pdf"]
    assert [loss.what for loss in extract.losses] == [f"a.eml: {name}" for name in names]
    assert "Outlook packed attachments" in _whys(extract)[3]
    assert {loss.lost for loss in extract.losses} == {"the attachment"}


def test_mail_when_its_charset_is_wrong_then_read_as_files_are_with_their_losses():
    cases = [
        ("", "Größe".encode(), "Größe", []),
        ("; charset=us-ascii", "Größe".encode(), "Größe", []),
        ("", "Größe über alles".encode("cp1252"), "Größe über alles", ["read as cp1252, a guess"]),
        ("; charset=us-ascii", "дом на горе".encode("cp1251"), "дом на горе", ["read as cp1251"]),
        ("; charset=iso-8859-1", b"\x93hot\x94", "“hot”", []),
        ("; charset=iso-8859-1", "Größe".encode(), "Größe", ["declares 'iso-8859-1', but"]),
        ("; charset=utf-8", b"Gr\xf6\xdfe \xfcber", "Größe über", ["read as cp1252, a guess"]),
        ("; charset=gb2312", "镕基".encode("gbk"), "镕基", []),
        ("; charset=ks_c_5601-1987", "똠방".encode("cp949"), "똠방", []),
        ("; charset=utf-16be", "дом".encode("utf-16-be"), "дом", []),
        ("; charset=x-unknown", b"plain", "plain", ["declares the unknown encoding 'x-unknown'"]),
        ("; charset=big5", b"a\xff", "a\ufffd", ["some bytes are not big5hkscs"]),
    ]
    for charset, body, text, whys in cases:
        head = f"{HEAD}Content-Type: text/plain{charset}\nContent-Transfer-Encoding: 8bit\n\n"
        extract = _read(head.encode() + body)
        assert extract.text == text, charset
        assert len(extract.losses) == len(whys), (charset, extract.losses)
        assert all(why in found for why, found in zip(whys, _whys(extract), strict=True)), whys
    page = b'Content-Type: text/html\n\n<meta charset="koi8-r"><p>' + "дом".encode("koi8-r")
    assert _read(page).text == "дом"
    assert _read(b"Subject: x\n\n" + "дом".encode("cp866"), encoding="cp866").text == "дом"


def test_mail_when_its_transfer_encoding_is_damaged_then_a_loss_says_so():
    cases = [
        ("quoted-printable", "caf=C3=A9 a=\nb", "café ab", []),
        ("quoted-printable", "caf=C3=A9 =ZZ =", "café =ZZ ", ["1 codes of its quoted-printable"]),
        ("base64", "Z3Jvw58=", "groß", []),
        ("base64", "Z3Jvw58", "groß", ["its base64 code is not complete"]),
        ("base64", "Z3Jv!w58=", "groß", ["its base64 code contains other characters"]),
        ("x-new", "plain", "plain", ["the transfer encoding 'x-new' is unknown"]),
        ("8BIT ", "plain", "plain", []),
    ]
    for coding, body, text, whys in cases:
        kind = "text/plain; charset=utf-8"
        extract = _read(
            HEAD + _part(body, kind, f"Content-Transfer-Encoding: {coding}").rstrip("\n")
        )
        assert extract.text == text, coding
        assert len(extract.losses) == len(whys), (body, extract.losses)
        assert all(why in found for why, found in zip(whys, _whys(extract), strict=True)), body
    cut = _read(HEAD + _multi("mixed", _part("one"), _part("two"))[: -len("--=m--\n")])
    assert (cut.text, _whys(cut)) == ("one\n\ntwo", [CUT])


DATES = {
    "Tue, 5 Mar 2024 09:07:30 -0500": "2024-03-05T14:07:30Z",
    "Tue, 05 Mar 2024 00:07 +0100 (CET)": "2024-03-04T23:07:00Z",
    "5 Mar 24 09:07:00 GMT": "2024-03-05T09:07:00Z",
    "Fri, 31 Dec 1999 23:59:59 EST": "2000-01-01T04:59:59Z",
    "5 Mar 2024 09:07:00 -0000": "2024-03-05T09:07:00Z",
    "2024-03-05T09:07:00+02:00": "2024-03-05T07:07:00Z",
}


def test_mail_when_dated_then_the_date_is_utc_and_sorts():
    for text, date in DATES.items():
        extract = _read(f"Date: {text}\n\nbody")
        assert (extract.metadata, extract.losses) == ({"format": "eml", "date": date}, ()), text
    for text, date, why in (
        ("Tue, 5 Mar 2024 09:07:30", "2024-03-05T09:07:30Z", "has no known time zone"),
        ("yesterday", "yesterday", "the date 'yesterday' is not in the form"),
        ("5 Mar 2024 09:77:30 +0000", "5 Mar 2024 09:77:30 +0000", "is not in the form"),
        ("9" * 300, "9" * 300, "is not in the form"),
    ):
        extract = _read(f"Date: {text}\n\nbody")
        assert extract.metadata["date"] == date
        assert len(extract.losses) == 1
        assert why in extract.losses[0].why


def test_mail_when_headers_are_encoded_then_names_and_addresses_are_kept():
    extract = _read(
        b"Subject: =?gb2312?B?1uzpRrv5?= =?utf-8*en?Q?caf=C3?=\n =?UTF-8?q?=A9_x?= =?x?= z\n"
        b"From: =?iso-8859-1?Q?J=FCrgen_=93B=94?= <j@x.de>\n"
        b'To: "Doe, Ann" <a@x.de>,\n\tBob <b@x.de>\nTo: c@x.de\nCc: d@x.de\nBcc: e@x.de\n'
        b"Reply-To: \xc3\x89lan <f@x.de>\nDate: 5 Mar 2024 09:07:00 GMT\n\nbody"
    )
    assert extract.title == "朱镕基café x =?x?= z"
    assert extract.metadata == {
        "format": "eml",
        "from": "Jürgen “B” <j@x.de>",
        "to": '"Doe, Ann" <a@x.de>, Bob <b@x.de>, c@x.de',
        "cc": "d@x.de",
        "bcc": "e@x.de",
        "reply_to": "Élan <f@x.de>",
        "date": "2024-03-05T09:07:00Z",
    }
    assert extract.losses == ()


def test_mail_when_a_header_is_damaged_then_a_loss_says_so():
    extract = _read(b"Subject: =?utf-8?B?###?= a\nFrom: J\xfcrgen ist m\xfcde\n\nbody")
    assert (extract.title, extract.metadata["from"]) == ("=?utf-8?B?###?= a", "Jürgen ist müde")
    whats = [(loss.what, loss.lost) for loss in extract.losses]
    assert sorted(whats) == [
        ("a.eml: header from", "certainty about characters beyond ASCII"),
        ("a.eml: header subject", "it"),
    ]
    for header in ("Subject", "Content-Type", "Content-Disposition", "To"):
        extract = _read(f"{header}: text/plain" + ';a="=?utf-8?q?' * 200_000 + "\n\nbody")
        assert extract.text == "body"
        assert [loss.lost for loss in extract.losses] == [
            f"the rest of the header {header.lower()}"
        ]


def _forwarded(subject, inner):
    mail = f"From: Ann <a@x.de>\nDate: Tue, 5 Mar 2024 09:07:00 +0100\nSubject: {subject}\n{inner}"
    return f"Content-Type: message/rfc822\nContent-Disposition: attachment\n\n{mail}"


def test_mail_when_it_forwards_messages_then_they_are_read_to_a_depth():
    nested = _part("deep text")
    for i in range(7, 0, -1):
        nested = _multi("mixed", _part(f"text {i}"), _forwarded(f"s{i}", nested), mark=f"m{i}")
    extract = _read(HEAD + nested)
    header = "From: Ann <a@x.de>\nDate: Tue, 5 Mar 2024 09:07:00 +0100\nSubject: "
    shown = [part for i in range(1, 6) for part in (f"text {i}", f"{header}s{i}")]
    assert extract.text == "\n\n".join([*shown, "text 6"])
    assert _whys(extract) == ["more than 5 messages inside each other"]
    plain = [f"Subject: {word}\n\nbody {word}" for word in ("one", "two")]
    digest = "".join(f"--d\n\n{mail}\n" for mail in plain)
    extract = _read(f"{HEAD}Content-Type: multipart/digest; boundary=d\n\n{digest}--d--\n")
    assert extract.text == "Subject: one\n\nbody one\n\nSubject: two\n\nbody two"
    coded = "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n"
    extract = _read(HEAD + coded + "U3ViamVjdDogeAoKYm9keQo=")
    assert (extract.text, extract.losses) == ("Subject: x\n\nbody", ())
    status = "Reporting-MTA: dns; x.de\n\nAction: failed\nStatus: 5.0.0\n"
    report = _multi("report", _part("not sent"), _part(status, "message/delivery-status"))
    text = "not sent\n\nReporting-MTA: dns; x.de\n\nAction: failed\nStatus: 5.0.0"
    assert _read(HEAD + report).text == text
    external = "Content-Type: message/external-body; access-type=URL\n\nContent-Type: image/png\n\n"
    extract = _read(HEAD + _multi("mixed", _part("body"), external))
    assert (extract.text, [loss.lost for loss in extract.losses]) == ("body", ["the message"])


def test_mail_when_parts_are_nested_without_end_then_read_or_refused():
    parts = [f"Content-Type: multipart/mixed; boundary=b{i}\n\n--b{i}\n" for i in range(300)]
    extract = _read(HEAD + "".join(parts[:100]) + _part("deep"))
    assert extract.text == "Trial"
    assert "parts inside each other, more than 50 levels" in _whys(extract)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(250)
    try:
        with pytest.raises(DocumentError, match=r"a\.eml: broken: its parts are nested too deep"):
            _read(HEAD + "".join(parts) + _part("deep"))
    finally:
        sys.setrecursionlimit(limit)


def test_mail_when_it_is_encrypted_then_a_loss_or_refused():
    smime = "application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m"
    pgp = [_part("Version: 1", "application/pgp-encrypted"), _part("x", "application/octet-stream")]
    for part in (_part("AAAA", smime), _multi("encrypted", *pgp)):
        extract = _read(HEAD + part)
        assert extract.text == "Trial"
        assert [loss.why.split(";")[0] for loss in extract.losses] == [
            "it is encrypted or signed as a whole"
        ]
        with pytest.raises(DocumentError, match=r"a\.eml: encrypted: save it decrypted"):
            _read(f"From: a@x.de\n{part}")
    armour = "-----BEGIN PGP MESSAGE-----\n\nabc=\n-----END PGP MESSAGE-----"
    extract = _read(HEAD + _part(f"Hello\n{armour}\nBye"))
    assert extract.text == "Hello\n\nBye"
    assert _whys(extract) == ["it is encrypted with PGP; save it decrypted"]
    extract = _read(HEAD + _multi("signed", _part("body"), _part("x", "application/pgp-signature")))
    assert (extract.text, extract.losses) == ("body", ())


def test_mail_when_flowed_then_its_paragraphs_are_joined():
    body = "A long \nline.\n> quoted \n> words\n>> deeper\n From x\n-- \nAnn"
    text = "A long line.\n> quoted words\n>> deeper\nFrom x\n-- \nAnn"
    assert _read(HEAD + _part(body, "text/plain; format=flowed").rstrip("\n")).text == text
    assert _read(HEAD + _part(body, "text/plain; format=fixed").rstrip("\n")).text == body
    assert unflow("Donau \nschiff\n", delete_space=True) == "Donauschiff\n"
    assert unflow("a \n> b \nc", delete_space=False) == "a \n> b \nc"


EVENT = """BEGIN:VCALENDAR
METHOD:REQUEST
BEGIN:VTIMEZONE
DTSTART:19700101T000000
END:VTIMEZONE
BEGIN:VEVENT
SUMMARY;LANGUAGE=en:Review\\, part
  two
DTSTART;TZID="Europe/Berlin":20240305T140000
DTEND:20240305T150000Z
RRULE:FREQ=WEEKLY
ORGANIZER;CN="Doe, Ann":MAILTO:ann@x.de
ATTENDEE;RSVP=TRUE:mailto:bob@x.de
DESCRIPTION:One\\nTwo
BEGIN:VALARM
DESCRIPTION:Reminder
END:VALARM
END:VEVENT
END:VCALENDAR
"""
EVENT_TEXT = (
    "Event: Review, part two\nStart: 2024-03-05 14:00 (Europe/Berlin)\nEnd: 2024-03-05 15:00 UTC\n"
    "Repeats: FREQ=WEEKLY\nOrganizer: Doe, Ann <ann@x.de>\nAttendee: bob@x.de\n"
    "Description: One\nTwo"
)


def test_mail_when_it_is_an_invitation_then_the_event_is_read_once():
    event = _part(EVENT, "text/calendar; charset=utf-8; method=REQUEST")
    again = _part(EVENT, "application/ics; name=invite.ics", "Content-Disposition: attachment")
    versions = _multi("alternative", _part("Please come"), _html("Please come"), event, mark="v")
    extract = _read(HEAD + _multi("mixed", versions, again))
    assert (extract.text, extract.losses) == (f"Please come\n\n{EVENT_TEXT}", ())
    assert calendar_text(EVENT.replace("REQUEST", "CANCEL")).startswith("Cancelled\nEvent: Review")
    assert calendar_text("BEGIN:VEVENT\nDTSTART;VALUE=DATE:20240305") == "Start: 2024-03-05"
    assert calendar_text("no calendar") == ""


def test_mail_when_it_has_only_a_subject_then_that_is_its_text():
    assert _read("Subject: Lunch at 12 (eom)\n\n\n").text == "Lunch at 12 (eom)"
    assert _read("From: a@x.de\n\n").text == ""


def test_mailbox_when_it_holds_several_mails_then_refused():
    one = "From a@x.de Tue Mar  5 10:00:00 2024\nSubject: one\n\nbody\n\n"
    with pytest.raises(DocumentError, match=r"a\.eml: unsupported: it is a mailbox \(mbox\) with"):
        _read(one + one.replace("one", "two"))
    extract = _read(f"{one}From here on 10:00 nothing\nhappened.\n")
    assert (extract.title, extract.text) == ("one", "body\n\nFrom here on 10:00 nothing\nhappened.")


def test_mail_when_loaded_then_document_with_losses(tmp_path):
    path = tmp_path / "a.eml"
    path.write_bytes(b"\xef\xbb\xbfSubject: x\nTo: a@x.de\n\n" + "дом на горе".encode("koi8-r"))
    result = load_file(SourceFile("a.eml", path, tmp_path))
    (document,) = result.documents
    assert (document.id, document.title, document.text) == ("a.eml", "x", "дом на горе")
    assert document.metadata == {"format": "eml", "to": "a@x.de"}
    assert [loss.what for loss in result.losses] == ["a.eml"]
    assert "read as koi8_r, a guess" in result.losses[0].why
