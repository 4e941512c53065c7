# ruff: noqa: RUF001 (texts in many languages)
import re

import pytest

from ragkit.documents import SourceFile, load_file, read_stream
from ragkit.documents.decoding import decode_bytes, is_binary
from ragkit.documents.encodings import find_codec, guess_codec
from ragkit.errors import DocumentError

TEXTS = {
    "french": "Le café était fermé à midi, mais la crème brûlée coûtait déjà très cher.",
    "german": "Die Größe der Körner wächst während des Glühens; schöne Flächen, süß und heiß.",
    "spanish": "¿Dónde está el niño? Mañana será otro día en la montaña, según mi corazón.",
    "swedish": "Vårt första försök gick åt skogen, så vi började om på måndag.",
    "polish": "Zażółć gęślą jaźń, a później pójdź do łaźni. Są różne źródła wiedzy.",
    "czech": "Příliš žluťoučký kůň úpěl ďábelské ódy. Měření teploty v peci je důležité.",
    "hungarian": "Az őszi időjárás hűvös, a fűtés működik. Öt szép szűzlány őrült írót nyúz.",
    "turkish": "Bugün hava çok güzel, çocuklar bahçede oynuyor. Işık hızı değişmez, şüphesiz.",
    "russian": "Температура плавления этого сплава выше, чем у чистого железа. Проверьте.",
    "ukrainian": "Температура плавлення цього сплаву вища, ніж у чистого заліза. Її видно.",
    "greek": "Η θερμοκρασία τήξης του κράματος είναι υψηλότερη από του καθαρού σιδήρου.",
    "hebrew": "טמפרטורת ההיתוך של הסגסוגת גבוהה מזו של ברזל טהור.",
    "arabic": "درجة انصهار هذه السبيكة أعلى من درجة انصهار الحديد النقي.",
    "thai": "อุณหภูมิหลอมเหลวของโลหะผสมนี้สูงกว่าเหล็กบริสุทธิ์ ตรวจสอบอีกครั้ง",
    "japanese": "この合金の融点は純鉄より高い。もう一度確認してください。カタカナも使います。",
    "chinese": "这种合金的熔点比纯铁高。请再检查一次，温度应该在九百度以上。",
    "taiwanese": "這種合金的熔點比純鐵高。請再檢查一次，溫度應該在九百度以上。",
    "korean": "이 합금의 녹는점은 순수한 철보다 높다. 온도를 다시 한번 확인해 주십시오.",
    "quotes": "The “hot” zone isn\u2019t stable; it\u2019s 25 °C above the limit… really.",
}
CODECS = {
    **dict.fromkeys(("french", "german", "spanish"), ("cp1252", "cp850", "mac_roman")),
    **dict.fromkeys(("swedish", "quotes"), ("cp1252",)),
    **dict.fromkeys(("polish", "czech"), ("cp1250", "iso8859_2", "cp852")),
    "hungarian": ("cp1250", "iso8859_2"),
    "turkish": ("cp1254", "iso8859_9"),
    "russian": ("cp1251", "koi8_r", "iso8859_5", "cp866"),
    "ukrainian": ("cp1251", "koi8_u"),
    "greek": ("cp1253", "iso8859_7"),
    "hebrew": ("cp1255", "iso8859_8"),
    "arabic": ("cp1256", "iso8859_6"),
    "thai": ("cp874",),
    "japanese": ("cp932", "euc_jp"),
    "chinese": ("gb2312", "gb18030"),
    "taiwanese": ("big5",),
    "korean": ("euc_kr", "cp949"),
}
ENGLISH = "The sample was heated and then cooled slowly in air by the team. "


def _load(folder, name, data, **options):
    path = folder / name
    path.write_bytes(data)
    return load_file(SourceFile(name, path, folder), **options)


def test_guess_when_a_text_or_a_few_of_its_words_are_legacy_then_right():
    wrong = []
    for language, text in TEXTS.items():
        words = [word for word in text.split() if not word.isascii()]
        few = f"{ENGLISH * 20}{' '.join(words[:5])}. {ENGLISH * 10}"
        for codec in CODECS[language]:
            for shown in (text, few):
                data = shown.encode(codec)
                if data.decode(guess_codec(data), "replace") != shown:
                    wrong.append((language, codec, guess_codec(data)))
    assert wrong == []


def test_guess_when_words_are_endless_then_only_a_sample_is_read():
    for data in (b"\xe9" * 3_000_000, b"a" * 3_000_000 + b"\xe9", b"\xe9 " * 1_000_000):
        assert find_codec(guess_codec(data))


def test_label_when_looked_up_then_it_means_what_it_means_on_the_web():
    expected = {
        "ISO-8859-1": "cp1252",
        " latin1 ": "cp1252",
        "us-ascii": "cp1252",
        "x-user-defined": "cp1252",
        "iso-8859-9": "cp1254",
        "tis-620": "cp874",
        "iso-8859-11": "cp874",
        "gb2312": "gb18030",
        "gbk": "gb18030",
        "x-gbk": "gb18030",
        "Shift_JIS": "cp932",
        "x-sjis": "cp932",
        "euc-kr": "cp949",
        "ks_c_5601-1987": "cp949",
        "big5": "big5hkscs",
        "x-x-big5": "big5hkscs",
        "euc-jp": "euc_jis_2004",
        "windows-1251": "cp1251",
        "koi": "koi8-r",
        "dos-866": "",
        "cp866": "cp866",
        "iso-8859-8-i": "iso8859_8",
        "unicode-1-1-utf-8": "utf-8",
        "utf-16": "utf-16-le",
        "cp437": "cp437",
        "hz-gb-2312": "hz",
        "iso-2022-kr": "iso2022_kr",
        **dict.fromkeys(
            ("utf-7", "rot13", "idna", "unicode_escape", "zip", "é", "\0", "", "x"), ""
        ),
    }
    assert {label: find_codec(label) for label in expected} == expected


UTF8_GUESS = "it is not UTF-8 and was read as {}, a guess"
DOUBLE = "looks like UTF-8 that was read in another encoding and saved again"


@pytest.mark.parametrize(
    ("data", "options", "text", "why"),
    [
        (b"\x93hot\x94 it\x92s", {}, "“hot” it\u2019s", UTF8_GUESS.format("cp1252")),
        (b"\x93hot\x94", {"declared": "iso-8859-1"}, "“hot”", ""),
        (b"a \x81", {"declared": "latin1"}, "a \ufffd", "some bytes are not cp1252"),
        ("a \x93b\x94".encode(), {}, "a “b”", r"2 control characters .* read as windows-1252"),
        ("\x9a".encode(), {"declared": "utf-8"}, "š", "1 control characters"),
        (b"\x8a", {"declared": "iso-8859-2"}, "Š", "1 control characters"),
        (
            "Größe für süßes Öl mit Äpfeln ".encode() + b"\x93x\x94 caf\xe9",
            {},
            "Größe für süßes Öl mit Äpfeln “x” café",
            r"\(3\) were read as cp1252",
        ),
        (
            "größer ü ".encode() + b"ol\xf3w",
            {"encoding": "latin2"},
            "größer ü olów",
            r"\(1\) .* iso8859-2",
        ),
        ("д ж".encode() + b"\xd0 " + "ж и ч".encode(), {}, "д ж\ufffd ж и ч", "some bytes"),
        ("Größe".encode(), {"declared": "iso-8859-15"}, "Größe", "declares 'iso-8859-15', but"),
        ("Größe".encode(), {"declared": "gb2312"}, "Gr枚脽e", ""),
        ("Größe".encode(), {"declared": "x-none"}, "Größe", "declares the unknown encoding"),
        ("é a".encode("utf-16-le"), {}, "é a", "no byte order mark and was read as utf-16-le"),
        ("д a".encode("utf-16-be"), {}, "д a", "no byte order mark and was read as utf-16-be"),
        ("日本".encode("iso2022_jp"), {}, "日本", "read as iso2022_jp, a guess"),
        ("日本".encode("iso2022_jp"), {"encoding": "iso-2022-jp"}, "日本", ""),
        ("д".encode("utf-16-le") * 9, {"encoding": "utf-16"}, "д" * 9, ""),
        ("Größe".encode(), {"encoding": "windows-1251"}, "Größe", ""),
        ("Größe".encode("cp1251", "replace"), {"encoding": "windows-1251"}, "Gr??e", ""),
        ("дом".encode("cp866"), {"encoding": "ibm866"}, "дом", ""),
        ("дом".encode("cp866"), {"encoding": "koi8-r", "declared": "ibm866"}, "дом", ""),
        ("дом".encode("cp1251"), {"encoding": "cp866", "declared": "utf-8"}, "фюь", ""),
        ("€".encode("utf-16"), {"encoding": "koi8-r", "declared": "big5"}, "€", ""),
        ("CafÃ© crÃ¨me".encode(), {}, "CafÃ© crÃ¨me", DOUBLE),
        ("itâ€™s".encode(), {}, "itâ€™s", DOUBLE),
        ("itâ\x80\x99s".encode(), {}, "itâ\x80\x99s", DOUBLE),
        ("РџСЂРёРІРµС‚".encode(), {}, "РџСЂРёРІРµС‚", DOUBLE),
        ("ÐŸÑ€Ð¸".encode(), {}, "ÐŸÑ€Ð¸", DOUBLE),
        ("æ—¥æœ¬".encode(), {}, "æ—¥æœ¬", DOUBLE),
        ("AMANHÃ” À l\u2019É… voilà…” Ñ Ð Â".encode(), {}, "AMANHÃ” À l\u2019É… voilà…” Ñ Ð Â", ""),
    ],
)
def test_bytes_when_decoded_then_the_text_is_right_and_doubt_is_a_loss(data, options, text, why):
    decoded, losses = decode_bytes(data, "a.txt", **options)
    assert decoded == text
    assert [(loss.stage, loss.what) for loss in losses] == [("documents", "a.txt")] * bool(why)
    assert all(re.search(why, loss.why) for loss in losses), losses


def test_binary_when_utf16_without_mark_or_nul_bytes_then_told_apart():
    texts = ["plain text", "Größe\n", "д ж\n", "日 本\n"]
    for codec in ("utf-16-le", "utf-16-be"):
        assert [is_binary(text.encode(codec)) for text in texts] == [False] * len(texts)
    numbers = [b"\1\0\2\0" * 9, b"\1\0\0\0" * 9, b"ab\0cde", b"ab\0cd", b"\0\0", b"abc\0"]
    assert [is_binary(data) for data in numbers] == [True] * len(numbers)
    assert not is_binary("дом".encode("utf-16-le"), "utf-16le")
    assert is_binary(b"\x89PNG\r\n\x1a\n", "utf-16le")


def test_file_when_its_encoding_is_given_then_every_kind_of_text_is_read_in_it(tmp_path):
    kinds = {
        "a.txt": ("дом", "дом"),
        "a.md": ("# дом", "# дом"),
        "a.csv": ("text,n\nдом,1\n", "дом\n\nn: 1"),
        "a.tsv": ("text\tn\nдом\t1\n", "дом\n\nn: 1"),
        "a.json": ('{"text": "дом"}', "дом"),
        "a.jsonl": ('{"text": "дом"}\n', "дом"),
        "a.html": ("<p>дом</p>", "дом"),
        "a.eml": ("Subject: x\n\nдом\n", "дом\n".strip()),
    }
    for name, (content, text) in kinds.items():
        result = _load(tmp_path, name, content.encode("koi8-r"), encoding="koi8-r")
        assert [document.text for document in result.documents] == [text], name
        assert result.losses == (), name
        data = content.encode("utf-16-le")
        if name != "a.eml":
            result = _load(tmp_path, name, data, encoding="utf-16le")
            assert [document.text for document in result.documents] == [text], name
            assert result.losses == (), name


def test_file_when_its_encoding_is_unknown_then_refused_before_it_is_read(tmp_path):
    file = SourceFile("none.txt", tmp_path / "none.txt", tmp_path)
    for label in ("no-such", "utf-7", "hex"):
        with pytest.raises(ValueError, match=f"encoding is '{label}'; expected the name of a"):
            load_file(file, encoding=label)


@pytest.mark.parametrize(
    ("head", "codec"),
    [
        ('<meta charset="windows-1251">', "cp1251"),
        ("<META http-equiv=Content-Type content='text/html; CharSet=Koi8-R'>", "koi8_r"),
        ('<?xml version="1.0" encoding="ISO-8859-5"?>', "iso8859_5"),
        ("<!-- <meta charset=utf-8> --><meta name=a><meta charset=ibm866>", "cp866"),
        ('<form accept-charset="big5"><meta charset=x-mac-cyrillic>', "mac_cyrillic"),
    ],
)
def test_html_when_it_declares_its_encoding_then_read_in_it(tmp_path, head, codec):
    page = f"{head}<p>дом на горе</p>".encode(codec)
    result = _load(tmp_path, "a.html", page, encoding="big5")
    assert [document.text for document in result.documents] == ["дом на горе"]
    assert result.losses == ()


def test_html_when_it_declares_utf16_in_ascii_then_utf8(tmp_path):
    result = _load(tmp_path, "a.html", '<meta charset="utf-16"><p>дом</p>'.encode())
    assert [document.text for document in result.documents] == ["дом"]
    assert result.losses == ()


def test_text_when_it_is_a_string_then_no_encoding_is_guessed():
    result = read_stream("CafÃ©? Größe", format="text")
    assert result.documents[0].text == "CafÃ©? Größe"


def test_mailbox_when_loaded_then_refused_with_a_remedy(tmp_path):
    for name in ("a.mbox", "a.msg"):
        with pytest.raises(DocumentError, match=r"unsupported type \.m.*as an \.eml file"):
            _load(tmp_path, name, b"x")
