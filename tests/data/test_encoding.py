"""mismatch.data.encoding: which encodings may be named, files in them as UTF-8, and what a guess
makes of texts in many scripts.
"""

from __future__ import annotations

import io
import random

import pytest

from mismatch.data.encoding import (
    Utf8Bytes,
    check_encoding,
    codec_name,
    guess_encoding,
    is_utf8,
)
from mismatch.errors import InputError

# an encoding that programs write → titles in a language that they write in it
TITLES = {
    "gb18030": "红色手提包/蓝色棉质衬衫/黑色皮鞋/儿童羽绒服连帽/透明玻璃花瓶/一个女人在打高尔夫球",
    "big5": "紅色手提包/藍色棉質襯衫/黑色皮鞋/兒童羽絨服連帽/透明玻璃花瓶/一個女人在打高爾夫球",
    "cp932": "赤いハンドバッグ/青い綿のシャツ/黒い革靴/子供用ジャケット/ガラスの花瓶/ゴルフをする女性",
    "euc_jp": "赤いハンドバッグ/青い綿のシャツ/黒い革靴/子供用ジャケット/ガラスの花瓶/ゴルフをする女性",
    "cp949": "빨간 핸드백/파란 면 셔츠/검은 가죽 구두/아동용 패딩 점퍼/유리 꽃병/골프를 치는 여자",
    "cp1256": "حقيبة يد حمراء/قميص قطني أزرق/حذاء جلدي أسود/سترة للأطفال/مزهرية زجاجية/امرأة تلعب الجولف",
    "cp1255": "תיק יד אדום/חולצת כותנה כחולה/נעלי עור שחורות/מעיל לילדים/אגרטל זכוכית/אישה משחקת גולף",
    "cp1251": "Красная сумка/Синяя рубашка/Чёрные туфли/Детская куртка/Стеклянная ваза/Женщина играет",
    "koi8_r": "Красная сумка/Синяя рубашка/Чёрные туфли/Детская куртка/Стеклянная ваза/Женщина играет",
    "cp1253": "Κόκκινη τσάντα/Μπλε πουκάμισο/Μαύρα παπούτσια/Παιδικό μπουφάν/Γυάλινο βάζο/Γυναίκα παίζει",
    "cp1252": "Sac à main rouge/Chemise bleu foncé/Robe à fleurs d'été/Montre élégante/Théière/Écharpe",
    "cp1250": "Czerwona torebka skórzana/Niebieska koszula bawełniana/Żółty wazon/Półbuty męskie/Łączka",
    "cp1254": "Kırmızı el çantası/Mavi gömlek/Yeşil şemsiye/Kahverengi cüzdan/Gümüş küpe/Çimde iki köpek",
    "cp874": "กระเป๋าถือสีแดง/เสื้อเชิ้ตสีน้ำเงิน/รองเท้าหนังสีดำ/เสื้อกันหนาวเด็ก/แจกันแก้ว/ผู้หญิงเล่นกอล์ฟ",
}


def lines(titles: list[str], encoding: str) -> bytes:
    rows = [f"images/{i:04}.jpg,{title},{i % 2}\n" for i, title in enumerate(titles)]
    return "".join(row for row in rows if not row.isascii()).encode(encoding)


@pytest.mark.parametrize("encoding", TITLES)
@pytest.mark.parametrize("seed", range(4))
def test_a_few_titles_tell_their_encoding(encoding: str, seed: int) -> None:
    titles = TITLES[encoding].split("/")
    data = lines(random.Random(seed).sample(titles, len(titles) - 1), encoding)
    guess = guess_encoding(data)
    assert guess is not None
    assert data.decode(guess) == data.decode(encoding)


def test_most_single_titles_tell_their_encoding() -> None:
    right = 0
    samples = [
        (encoding, lines([title], encoding))
        for encoding, titles in TITLES.items()
        for title in titles.split("/")
    ]
    for encoding, data in samples:
        guess = guess_encoding(data)
        right += guess is not None and data.decode(guess) == data.decode(encoding)
    assert right / len(samples) >= 0.85


@pytest.mark.parametrize("data", [b"\xff", b"a.jpg,\x81\xff\x00\x02\xfe\x80\x81\x02\n"])
def test_what_says_nothing_is_not_guessed(data: bytes) -> None:
    assert guess_encoding(data) is None


def test_one_accent_in_a_word_is_enough() -> None:
    assert guess_encoding(b"a.jpg,caf\xe9,1\n") == "cp1252"


@pytest.mark.parametrize(
    "name",
    ["gbk", "GB18030", "big5", "shift_jis", "cp1252", "latin-1", "utf-16", "utf8", "mac-roman"],
)
def test_encodings_of_text_may_be_named(name: str) -> None:
    check_encoding(name)


@pytest.mark.parametrize(
    "name", ["", "gkb", "base64", "rot13", "hex", "undefined", "a\0b", 3, b"gbk"]
)
def test_what_names_no_encoding_of_text_is_refused(name: object) -> None:
    with pytest.raises(InputError, match=r"`encoding` is .* is needed"):
        check_encoding(name)


def test_the_nearest_name_is_said() -> None:
    with pytest.raises(InputError, match="did you mean 'gb18030"):
        check_encoding("gb1803")


def test_names_of_one_encoding_are_one() -> None:
    assert codec_name("GBK") == codec_name("cp936") == "gbk"
    assert [is_utf8(name) for name in (None, "UTF8", "utf-8-sig", "gbk")] == [
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("encoding", ["gbk", "utf-16", "utf-16-le", "cp932"])
@pytest.mark.parametrize("size", [1, 7, 70_000])
def test_a_file_is_read_as_utf8_and_again(encoding: str, size: int) -> None:
    text = "image_path,text\r\n" + "a.jpg,赤色\n" * 20_000
    file = io.BufferedReader(Utf8Bytes(io.BytesIO(text.encode(encoding)), encoding, "a.csv"), size)
    assert file.read() == text.encode()
    file.seek(0)
    assert file.readline() == b"image_path,text\r\n"
    assert file.tell() == 17
    file.seek(0)
    assert file.read() == text.encode()


def test_bytes_that_say_nothing_never_become_text() -> None:
    # in UTF-8 the two would be one letter
    file = Utf8Bytes(io.BytesIO(b"a\xc3\xa9\x81b\n"), "ascii", "a.csv")
    assert file.read() == b"a\xff\xff\xffb\n"
    with pytest.raises(
        InputError, match=r"a\.csv can't be read as utf-16: .*pass another `encoding`"
    ):
        Utf8Bytes(io.BytesIO(b"image_path"), "utf-16", "a.csv").read()


def test_only_the_beginning_is_found_again() -> None:
    file = Utf8Bytes(io.BytesIO(b"abc"), "gbk", "a.csv")
    with pytest.raises(io.UnsupportedOperation):
        file.seek(1)
    file.close()
    assert file.closed
