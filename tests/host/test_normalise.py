"""Books become text for training."""

import json

import pytest
from click.testing import CliRunner

from terngen.host.cli import cli
from terngen.host.errors import InputError
from terngen.host.normalise import normalise

HEADER = """\ufeffThe Project Gutenberg eBook of A Book

This ebook is for the use of anyone anywhere.

Title: A Book

*** START OF THE PROJECT GUTENBERG EBOOK A BOOK ***

"""
FOOTER = """

*** END OF THE PROJECT GUTENBERG EBOOK A BOOK ***

Updated editions will replace the previous one.
"""


def body(text):
    return normalise(HEADER + text + FOOTER, "Book").text


def test_header_and_licence():
    assert body("Once upon a time.") == "Once upon a time.\n"


def test_paragraphs():
    assert body("One\nline   and\r\nanother.\n\n\n\n  Two.\n \t\nThree.\n") == (
        "One line and another.\nTwo.\nThree.\n")


@pytest.mark.parametrize("book, plain", [
    ("\u2018No,\u2019 said he\u2014\u201cnever\u201d", "'No,' said he--\"never\""),
    ("1812\u201315 \u2026", "1812-15 ..."),
    ("Le Cabinet des F\xe9es", "Le Cabinet des Fees"),
    ("Le Cabinet des Fe\u0301es", "Le Cabinet des Fees"),
    ("Erlk\xf6nig, stra\xdfe, \xc6sop, man\u0153uvre", "Erlkonig, strasse, Aesop, manoeuvre"),
    ("\xe0 la Houppe", "a la Houppe"),
    ("_very_ old", "very old"),
    ("a\xa0b", "a b"),
    ("* * * * *", "* * * * *"),
])
def test_spelling(book, plain):
    assert body(book) == plain + "\n"


def test_illustrations():
    assert body("One.\n\n[Illustration]\n\n[Illustration: The king\nand his\n\ndaughter]\n\nTwo.") == "One.\nTwo.\n"


def test_credits():
    assert body("Produced by A. Reader\n\n[Transcriber's Note: none]\n\nA TITLE\n\nOnce.") == "A TITLE\nOnce.\n"


def test_credits_are_in_front():
    story = "\n\n".join(f"Part {number}." for number in range(10))
    assert body(f"{story}\n\nProduced by magic, a palace rose.").endswith("Produced by magic, a palace rose.\n")


def test_old_marks():
    book = ("The Project Gutenberg Etext of A Book\n\n***START**THE SMALL PRINT!**FOR ETEXTS**START***\n\nLaw.\n\n"
            "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n\nOnce.\n\n"
            "End of The Project Gutenberg Etext of A Book\n")
    assert normalise(book, "Book").text == "Once.\n"


def test_law_behind_the_begin():
    law = "\nLaw.\n\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*END*\n\n"
    assert normalise(HEADER + law + "Once." + FOOTER, "Book").text == "Once.\n"


def test_law_behind_the_end():
    law = "\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*END*\n"
    assert normalise(HEADER + "Once." + FOOTER + law, "Book").text == "Once.\n"


def test_mark_on_two_lines():
    header = HEADER.replace("EBOOK A BOOK ***", "EBOOK A VERY\nLONG TITLE ***")
    assert normalise(header + "Once." + FOOTER, "Book").text == "Once.\n"


def test_other_text():
    assert normalise("Once.\n\nTwice.", "Text").text == "Once.\nTwice.\n"


def test_counts():
    result = normalise("word " * 100 + "\n\n\N{WHITE STAR} Two.", "Text")
    assert (result.paragraphs, result.lost) == (2, 1)
    assert result.text.endswith("\nTwo.\n")


def test_twice_is_once():
    once = body("\u2018One,\u2019\nsaid she.\n\nTwo \u2014 three.")
    assert normalise("\n\n".join(once.splitlines()), "Text").text == once


@pytest.mark.parametrize("text, message", [
    (HEADER + "Once.", r"^Book begins as a book of Project Gutenberg, but has no line .*; it was cut off$"),
    ("Once." + FOOTER, r"^Book speaks of Project Gutenberg, but has no line "),
    ("A book of Project Gutenberg.", r"^Book speaks of Project Gutenberg, but has no line "),
    (HEADER + "[Illustration]" + FOOTER, r"^Book must have at least one paragraph of text$"),
    ("", r"^Book must have at least one paragraph of text$"),
    ("\n<!DOCTYPE html><html>", r"^Book must be plain text, not HTML"),
    ("PK\0\1", r"^Book must be plain text, but has a zero octet in it$"),
    ("\u041e\u0434\u043d\u0430\u0436\u0434\u044b.", r"^Book must be written in Latin letters, but 7 of its 8 "),
])
def test_refused(text, message):
    with pytest.raises(InputError, match=message):
        normalise(text, "Book")


def run(*arguments):
    return CliRunner().invoke(cli, ["normalise", *map(str, arguments)])


def test_command(tmp_path):
    first, second, output = tmp_path / "first.txt", tmp_path / "second.txt", tmp_path / "text.txt"
    first.write_text(HEADER + "One.\n\nTwo." + FOOTER, "utf-8")
    second.write_text("Three \N{EM DASH} four.", "utf-8")
    result = run(first, second, "-o", output, "--json")
    assert result.exit_code == 0, result.output
    assert output.read_bytes() == b"One.\nTwo.\nThree -- four.\n"
    assert json.loads(result.stdout) == {"output": str(output), "books": 2, "octets": 25, "paragraphs": 3,
                                         "lost": 0}


def test_encoding(tmp_path):
    book, output = tmp_path / "book.txt", tmp_path / "text.txt"
    book.write_bytes("Les F\xe9es.".encode("latin-1"))
    result = run(book, "-o", output)
    assert result.exit_code == 8
    assert "must be UTF-8, but at octet 5 it is not" in result.stderr
    assert run(book, "-o", output, "--encoding", "latin-1").exit_code == 0
    assert output.read_text() == "Les Fees.\n"


@pytest.mark.parametrize("name", ["klingon", "hex"])
def test_encoding_wrong(tmp_path, name):
    (tmp_path / "book.txt").write_text("Once.")
    result = run(tmp_path / "book.txt", "-o", tmp_path / "text.txt", "--encoding", name)
    assert result.exit_code == 2
    assert f"Encoding must be one that Python knows, not '{name}'" in result.stderr


def test_missing_book(tmp_path):
    result = run(tmp_path / "book.txt", "-o", tmp_path / "text.txt")
    assert result.exit_code == 8
    assert "book.txt cannot be read: No such file or directory" in result.stderr


def test_output_wrong(tmp_path):
    (tmp_path / "book.txt").write_text("Once.")
    result = run(tmp_path / "book.txt", "-o", tmp_path / "nowhere" / "text.txt")
    assert result.exit_code == 9


def test_nothing_half_written(tmp_path):
    good, bad, output = tmp_path / "good.txt", tmp_path / "bad.txt", tmp_path / "text.txt"
    good.write_text("Once.")
    bad.write_text("<html>")
    output.write_text("before")
    assert run(good, bad, "-o", output).exit_code == 8
    assert output.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.txt", "good.txt", "text.txt"]
