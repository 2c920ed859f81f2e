"""Bank cards and addresses: published test numbers, every single wrong digit, and numbers that are none of it."""

import random
from collections import Counter

import pytest

from llmlab.text import find_personal, luhn, mask_personal
from llmlab.text.personal import Found, is_card_number

# Numbers that the networks publish for tests, and the example of ISO/IEC 7812.
CARDS = [
    "4111111111111111",
    "4012888888881881",
    "5555555555554444",
    "5105105105105100",
    "378282246310005",
    "3530111333300000",
]


def by_hand(digits):
    """The sum as the patent describes it, from the left."""
    total = 0
    for place, digit in enumerate(digits):
        value = int(digit) * (2 if (len(digits) - place) % 2 == 0 else 1)
        total += value if value < 10 else value - 9
    return total % 10 == 0


def test_the_check_digit():
    assert luhn("79927398713") and not luhn("79927398710")
    assert all(luhn(card) and is_card_number(card) for card in CARDS)
    rng = random.Random(0)
    for _ in range(300):
        digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 19)))
        assert luhn(digits) == by_hand(digits)
    for text in ("", "12a4", "４１１１１１１１１１１１１１１１", "-1"):
        assert not luhn(text)


def test_one_wrong_digit_is_always_noticed_and_most_exchanges_are():
    card = CARDS[1]
    for place in range(16):
        for digit in set("0123456789") - {card[place]}:
            assert not luhn(card[:place] + digit + card[place + 1 :])
    pairs = [f"{a}{b}" for a in range(10) for b in range(10) if a != b]
    unseen = [pair for pair in pairs if luhn(pair) == luhn(pair[::-1]) and luhn(pair)]
    assert unseen == ["09", "90"] or not unseen


def test_only_numbers_that_a_network_gives_out():
    assert not is_card_number("1234567890123452") and luhn("1234567890123452"), "no network begins with 1234"
    assert not is_card_number("411111111111111") and is_card_number("4111-1111 1111-1111")
    assert is_card_number("6212345678901232") == luhn("6212345678901232")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("卡号4111111111111111。", "卡号[CARD]。"),
        ("4111 1111 1111 1111, 5555-5555-5555-4444", "[CARD], [CARD]"),
        ("amex 3782 822463 10005", "amex [CARD]"),
        ("服务器8.8.8.8的", "服务器[IP]的"),
        ("id 11010519491231002X card 4012888888881881", "id [ID] card [CARD]"),
    ],
)
def test_cards_and_addresses_are_masked(text, masked):
    assert mask_personal(text)[0] == masked


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # one digit off
        "14111111111111111",  # part of a longer number
        "192.168.1.1, 127.0.0.1, 10.0.0.8, 999.1.1.1, 1.2.3",
        "v1.2.3.4.5 x8.8.8.8",
        "圆周率3.14159265358979323846",
    ],
)
def test_what_only_looks_like_it_stays(text):
    assert mask_personal(text) == (text, Counter())


def test_pieces_come_in_order_without_overlap():
    text = "a@b.com 13912345678 8.8.8.8 4111111111111111"
    found = find_personal(text)
    assert [text[p.start : p.end] for p in found] == text.split()
    assert [p.kind for p in found] == ["EMAIL", "PHONE", "IP", "CARD"] and found[0] == Found("EMAIL", 0, 7)
    assert all(a.end <= b.start for a, b in zip(found, found[1:]))
    assert find_personal("") == []
