"""Normalising and cleaning keep what is text; masks take what is personal."""

import random
import time
import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from llmlab import assets
from llmlab.text import changes, clean, is_chinese_id, mask_personal, normalize, strip_tags
from llmlab.text.normalize import STEPS, half_width, nfc, nfkc, remove_controls

unicode = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text(" \t\n\r\x0bａＡ1２é中e\u0301\u200b。", max_size=40)  # fmt: skip


# --- normalising ----------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(unicode)
def test_forms_are_those_of_tokenizers(text):
    known = "".join(c for c in text if unicodedata.category(c) != "Cn")  # their Unicode may be newer
    assert nfc(known) == normalizers.NFC().normalize_str(known)
    assert nfkc(known) == normalizers.NFKC().normalize_str(known)


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        ("nfc", "e\u0301 ﬁ Ａ①", "é ﬁ Ａ①"),
        ("nfkc", "e\u0301 ﬁ Ａ① 2⁵ ㎏", "é fi A1 25 kg"),
        ("half_width", "Ａb１２，！　。「」①ﬁ2⁵", "Ab12,! 。「」①ﬁ2⁵"),
        ("remove_controls", "\ufeffa\u200bb\x00\u202ec\u00ad\td\r\ne\rf\x0cg", "abc\td\ne\nf\ng"),
        (
            "remove_controls",
            "👨\u200d👩\u200d👧 می\u200cخواهم 🇨🇳 ❤\ufe0f",
            "👨\u200d👩\u200d👧 می\u200cخواهم 🇨🇳 ❤\ufe0f",
        ),
    ],
)
def test_each_step_changes_what_it_says_and_nothing_else(step, before, after):
    assert STEPS[step](before) == after == normalize(before, [step])


def test_half_width_is_a_part_of_nfkc():
    for code in range(0x110000):
        if half_width(chr(code)) != chr(code):
            assert half_width(chr(code)) == nfkc(chr(code)) and (0xFF01 <= code <= 0xFF5E or code == 0x3000)


@settings(max_examples=150, deadline=None)
@given(unicode)
def test_the_default_changes_nothing_twice(text):
    assert normalize(normalize(text)) == normalize(text)
    assert clean(clean(text)) == clean(text)


def test_changes_in_a_long_text_are_as_small_as_in_a_short_one():
    """difflib by itself takes no notice of characters that are more than a hundredth of 200 or more."""
    assert changes(["the same " * 50 + "e\u0301" + " words" * 50], ["nfc"]) == {"nfc": {("e\u0301", "é"): 1}}


def test_changes_are_counted_by_step():
    found = changes(["１９９８年", "e\u0301１\u200b", "same"], ["remove_controls", "nfc", "half_width"])
    assert found["remove_controls"] == Counter({("\u200b", ""): 1})
    assert found["nfc"] == Counter({("e\u0301", "é"): 1})
    assert found["half_width"] == Counter({("１", "1"): 2, ("９", "9"): 2, ("８", "8"): 1})


def test_an_unknown_step_is_answered_with_the_known_ones():
    for steps in (["lower"], "nfc"):
        with pytest.raises(ValueError, match="expected a list of nfc, nfkc, half_width, remove_controls"):
            normalize("a", steps)


# --- cleaning -------------------------------------------------------------------------------------------------------


def test_a_cleaner_keeps_chinese_numbers_case_signs_and_emoji():
    text = "  def f(x):\n\n    return x  # 3.14, 50%, 中文！ NASA、naïve 😀"
    assert clean(text) == "  def f(x):\n\n    return x # 3.14, 50%, 中文！ NASA、naïve 😀"
    assert clean("a \t b  \n\n\n\n\nc\r\n\x00d\n\n") == "a b\n\nc\nd"


def test_cleaning_real_text_takes_no_letter_and_no_number():
    for load in (assets.load_reviews, assets.load_vader):
        try:
            texts = load().texts[:1500]
        except assets.AssetMissing as error:
            pytest.skip(str(error))
        for text in texts:
            kept, given_ = clean(text), unicodedata.normalize("NFC", text)
            assert [c for c in kept if c.isalnum()] == [c for c in given_ if c.isalnum()]
            assert len(kept.split()) == len(remove_controls(given_).split())


def test_tags_go_and_what_only_looks_like_one_stays():
    page = "<p>Tom &amp; 李雷</p><p class='x'>a<br/>b</p><script>var x = '<p>';</script><!-- no\n --><b>bold</b>"
    assert clean(strip_tags(page)) == "Tom & 李雷\n\na\nb\nbold"
    for text in ("a < b and c > d", "I <3 you", "<|endoftext|>", "x<y", "1<2>0", "《红楼梦》"):
        assert strip_tags(text) == text


# --- personal data --------------------------------------------------------------------------------------------------


def chinese_id(first17):
    """By the other definition: the 18 places, weighted with powers of two, sum to 1 modulo 11."""
    for last in "0123456789X":
        digits = [10 if c == "X" else int(c) for c in first17 + last]
        if sum(digit * 2 ** (17 - i) for i, digit in enumerate(digits)) % 11 == 1:
            return first17 + last
    raise AssertionError("one of eleven always fits")


def made(seed):
    """A number of the right form, for nobody: region 999999 is not given out."""
    rng = random.Random(seed)
    return chinese_id(
        f"999999{rng.randint(1930, 2020)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}{rng.randint(0, 999):03}"
    )


def test_the_checksum_of_identity_numbers():
    assert is_chinese_id("11010519491231002X") and is_chinese_id("440524188001010014")  # the examples of GB 11643
    for seed in range(200):
        number = made(seed)
        assert is_chinese_id(number) and is_chinese_id(number.lower())
        rng = random.Random(seed)
        place = rng.randrange(17)
        wrong = number[:place] + str((int(number[place]) + rng.randint(1, 9)) % 10) + number[place + 1 :]
        assert not is_chinese_id(wrong), "one wrong digit"
        if number[place] != number[place + 1]:
            swapped = number[:place] + number[place + 1] + number[place] + number[place + 2 :]
            assert not is_chinese_id(swapped), "two digits exchanged"
    assert not is_chinese_id(chinese_id("99999919901301001")), "there is no month 13"
    assert not is_chinese_id("") and not is_chinese_id("1234567890")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("邮箱zhang.san+a@mail.example.com。", "邮箱[EMAIL]。"),
        ("写信给a@b.cn谢谢", "写信给[EMAIL]谢谢"),
        ("电话13912345678转", "电话[PHONE]转"),
        ("+86 139-1234-5678, 8613912345678", "[PHONE], [PHONE]"),
        ("总机010-62751234，(021)63214567", "总机[PHONE]，[PHONE]"),
        (f"身份证{made(3)}号", "身份证[ID]号"),
        ("号码11010519491231002x", "号码[ID]"),
    ],
)
def test_personal_data_is_masked(text, masked):
    assert mask_personal(text)[0] == masked


@pytest.mark.parametrize(
    "text",
    [
        "圆周率3.13912345678",
        "订单202113912345678901",
        "2008-08-08 12:30",
        "a @ b, @user, 价格1999元, 1.5@2",
        "12345678901",
        "110105194912310021",  # an identity number but for its last digit
        "1998年12月31日，第010期",
    ],
)
def test_other_numbers_stay(text):
    assert mask_personal(text) == (text, Counter())


def test_masks_are_counted_and_meet_no_mask():
    text, counts = mask_personal("a@b.com 13912345678 c@d.com")
    assert counts == {"EMAIL": 2, "PHONE": 1} and mask_personal(text) == (text, Counter())


def test_long_lines_cost_little():
    start = time.process_time()
    for evil in (
        "a" * 50_000 + "@",
        "1" * 50_000,
        "a.a@" * 10_000,
        "<a " * 10_000,
        "x@" + "a." * 20_000,
        " " * 50_000 + "x",
    ):
        mask_personal(evil)
        clean(strip_tags(evil))
    assert time.process_time() - start < 5
