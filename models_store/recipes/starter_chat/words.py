"""Where names and values come from: word lists, and an endless supply of invented words.

Called by every generator with its own `random.Random`, so that one seed gives one data set. An invented word
belongs either to training or to evaluation, decided by its digest: the two sets can never meet, whatever
the seeds.
"""

from __future__ import annotations

import hashlib
import random
from typing import Literal

Split = Literal["train", "held_out"]

HELD_OUT_SHARE = 16
"""One invented word in this many is kept for evaluation."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = _words("""
    Maria James Anna Peter Olga Ivan Lena Omar Fatima Yusuf Chen Wei Mei Hana Kenji Yuki Ravi Priya Arjun Sana
    Liam Emma Noah Olivia Lucas Mia Hugo Clara Jonas Nina Felix Greta Oscar Ida Sven Astrid Lars Ingrid Pablo
    Lucia Diego Elena Carlos Sofia Marco Giulia Paolo Chiara Pierre Claire Louis Camille Adam Eva Tomas Jana
    Milan Vera Boris Katya Amir Leila Hassan Nadia Kofi Ama Tunde Ngozi Zuri Jabari Rosa Bruno Ines Rui Marta
    Andre Bianca Victor Diana Simon Alice Robert Helen George Ruth Samuel Grace Daniel Laura Martin Julia Thomas
    Sarah Henry Irene Walter Edith
""")

LAST_NAMES = _words("""
    Silva Santos Costa Rossi Bianchi Romano Moreau Dubois Laurent Petit Schmidt Weber Fischer Becker Hoffmann
    Novak Horvat Kovacs Nagy Popov Ivanov Petrov Sokolov Larsen Hansen Nilsson Berg Lund Dahl Virtanen Korhonen
    Jansen Visser Bakker Smith Jones Taylor Brown Wilson Walker Clarke Hughes Murphy Kelly Garcia Lopez Torres
    Ramos Vargas Mendoza Castillo Tanaka Suzuki Sato Kimura Mori Chen Wang Zhang Liu Kim Park Choi Nguyen Tran
    Patel Sharma Singh Gupta Khan Rahman Haddad Nasser Farouk Mensah Okafor Adeyemi Mwangi Banda Dlamini Cohen
    Levi Katz Green Stone Woods Rivers Field Hill
""")

CITIES = _words("""
    Paris London Berlin Madrid Rome Lisbon Vienna Prague Warsaw Budapest Athens Oslo Stockholm Helsinki
    Copenhagen Dublin Brussels Amsterdam Zurich Geneva Munich Hamburg Cologne Lyon Marseille Porto Seville
    Valencia Milan Turin Naples Venice Krakow Riga Vilnius Tallinn Kyiv Sofia Belgrade Zagreb Cairo Lagos Accra
    Nairobi Tunis Rabat Dakar Kampala Lusaka Delhi Mumbai Chennai Karachi Lahore Dhaka Colombo Bangkok Hanoi
    Manila Jakarta Singapore Seoul Busan Tokyo Osaka Kyoto Beijing Shanghai Taipei Sydney Perth Auckland Boston
    Chicago Denver Dallas Houston Austin Seattle Portland Toronto Montreal Vancouver Lima Quito Bogota Santiago
    Havana Caracas Recife Salvador
""")

COUNTRIES = _words("""
    France Germany Spain Italy Portugal Austria Poland Hungary Greece Norway Sweden Finland Denmark Ireland
    Belgium Egypt Nigeria Ghana Kenya Morocco Senegal India Pakistan Thailand Vietnam Indonesia Korea Japan
    China Australia Canada Mexico Peru Chile Brazil Cuba Iceland Latvia Estonia Croatia Serbia Bulgaria Romania
    Turkey Jordan Oman Qatar Nepal Fiji
""")

COLOURS = _words("""
    red blue green yellow orange purple black white brown grey pink silver golden violet amber teal
""")

NOUNS = _words("""
    weather order invoice ticket report file folder photo song movie book recipe meeting event task note
    reminder alarm message email call contact room table flight hotel train taxi package parcel price stock
    product item basket payment account balance loan card user team project server database backup log metric
    alert sensor lamp door window heater camera robot printer machine engine pump valve tank truck route map
    road bridge school course exam student teacher patient doctor clinic drug diet workout garden plant tree
    river lake mountain island harbour ship plane rocket planet star game player score league match ticket
    museum painting poem letter word language dictionary calendar clock timer battery cable network router
    password token license contract budget tax salary bonus vacation holiday survey vote
""")
"""Things a tool can be about."""

VERBS = _words("""
    get find search show list read fetch check look create add make open start book order buy send share post
    delete remove cancel close stop update change set rename move copy convert translate count compute measure
    track schedule plan
""")

ADJECTIVES = _words("""
    old new small large quiet bright northern southern eastern western central upper lower main second first
""")

MONTHS = _words("January February March April May June July August September October November December")

WEEKDAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")

FILLER = (
    "the report was written last year and nobody has changed it since then",
    "most people agree that the work went well",
    "it rained for two days before the start",
    "visitors are welcome every morning",
    "the building has three floors and a garden",
    "a short history is kept in the library",
    "many people still ask about it",
    "the first plan was too expensive",
    "the team meets every week",
    "there is a small shop near the entrance",
    "local papers wrote about it often",
    "the road to it is narrow",
    "everything was moved in the summer",
    "the old records were lost in a fire",
)

_ONSETS = _words("b c d f g h j k l m n p r s t v w z br cl dr fl gr kr pl pr sh sk sl st th tr")
_VOWELS = _words("a e i o u a e i o u ai ea io ou")
_CODAS = _words("l m n r s t x k d nd rn st")


def is_held_out(word: str) -> bool:
    """Whether an invented word is kept for evaluation."""
    return hashlib.sha256(word.lower().encode()).digest()[0] % HELD_OUT_SHARE == 0


def _syllables(rng: random.Random, count: int) -> str:
    parts = []
    for index in range(count):
        parts.append(rng.choice(_ONSETS) + rng.choice(_VOWELS))
        if index == count - 1 and rng.random() < 0.6:
            parts.append(rng.choice(_CODAS))
    return "".join(parts)


def invented(rng: random.Random, split: Split) -> str:
    """A lower-case pronounceable word of one to three syllables that belongs to `split`."""
    while True:
        word = _syllables(rng, rng.choice((2, 2, 2, 3)))
        if is_held_out(word) == (split == "held_out"):
            return word


def title(rng: random.Random, split: Split) -> str:
    """An invented proper name, one or two words."""
    words = [invented(rng, split).capitalize() for _ in range(rng.choice((1, 1, 2)))]
    return " ".join(words)


def person(rng: random.Random, split: Split) -> str:
    """A person: half the time the surname is invented."""
    last = rng.choice(LAST_NAMES) if rng.random() < 0.5 else invented(rng, split).capitalize()
    first = rng.choice(FIRST_NAMES)
    return first if rng.random() < 0.25 else f"{first} {last}"


def place(rng: random.Random, split: Split) -> str:
    """A city, a country or an invented town."""
    draw = rng.random()
    if draw < 0.5:
        return rng.choice(CITIES)
    return rng.choice(COUNTRIES) if draw < 0.6 else invented(rng, split).capitalize()


def code(rng: random.Random) -> str:
    """An identifier such as `KX-4471`, `b7f2` or `QRT92`."""
    letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.choice((1, 2, 2, 3))))
    digits = "".join(rng.choice("0123456789") for _ in range(rng.choice((2, 3, 3, 4))))
    joined = rng.choice((f"{letters}-{digits}", f"{letters}{digits}", f"{letters}-{digits}"))
    return joined.lower() if rng.random() < 0.25 else joined


def date(rng: random.Random) -> str:
    """A calendar date in one of three notations."""
    year, month, day = rng.randint(1900, 2035), rng.randint(1, 12), rng.randint(1, 28)
    draw = rng.random()
    if draw < 0.5:
        return f"{year}-{month:02d}-{day:02d}"
    return f"{day} {MONTHS[month - 1]} {year}" if draw < 0.85 else f"{MONTHS[month - 1]} {day}"


def clock(rng: random.Random) -> str:
    """A time of day."""
    return f"{rng.randint(0, 23):02d}:{rng.choice((0, 15, 30, 45, rng.randint(0, 59))):02d}"


def email(rng: random.Random, split: Split) -> str:
    """An address at an invented domain."""
    return f"{rng.choice(FIRST_NAMES).lower()}@{invented(rng, split)}.{rng.choice(('com', 'org', 'net'))}"


def number(rng: random.Random) -> int:
    """A whole number, small ones more often."""
    return rng.randint(1, rng.choice((9, 20, 99, 500, 9999)))


def phrase(rng: random.Random, split: Split) -> str:
    """Two to five words of free text, such as a message or a title."""
    pool = (*NOUNS, *ADJECTIVES, *COLOURS)
    words = [rng.choice(pool) if rng.random() < 0.8 else invented(rng, split) for _ in range(rng.randint(1, 4))]
    return " ".join(words)
