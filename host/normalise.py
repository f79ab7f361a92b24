"""Books as Project Gutenberg gives them, turned into the text that our models read.

The result is plain ASCII with one paragraph a line: header, licence and illustrations are gone,
quotation marks and dashes are those of a typewriter, letters have no accents.
"""

import re
import unicodedata
from dataclasses import dataclass

from terngen.host.errors import InputError

__all__ = ["Normalised", "normalise"]

#: Around the text of a book. Books of before 2000 have the end of a legal notice as their begin.
_BEGIN = re.compile(r"^\*{3} ?START OF (?:THE|THIS) PROJECT GUTENBERG (?:[^*]{1,300}\*{3}|.*$)"
                    r"|^\*END\*? ?THE SMALL PRINT!.*$", re.MULTILINE)
_END   = re.compile(r"^\*{3} ?END OF (?:THE|THIS) PROJECT GUTENBERG .*$"
                    r"|^\**\s*End of (?:the |this )?Project Gutenberg.*$", re.MULTILINE | re.IGNORECASE)

#: Who made the file, in front of the text.
_CREDITS = re.compile(r"(?:Produced|Prepared|Transcribed|Scanned) by |E-?text prepared by |"
                      r"This (?:e-?text|e-?book) was |\[?Transcriber'?s'? Note|Note: Project Gutenberg",
                      re.IGNORECASE)
#: Paragraphs in front of a text that may be credits.
_FRONT = 6

_ILLUSTRATION = re.compile(r"\[Illustrations?(?::[^\[\]]*)?\]", re.IGNORECASE)

#: Characters that Unicode does not decompose into what a typewriter has.
_SPELLINGS = str.maketrans({
    "\N{LEFT SINGLE QUOTATION MARK}": "'", "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{SINGLE LOW-9 QUOTATION MARK}": "'", "\N{SINGLE HIGH-REVERSED-9 QUOTATION MARK}": "'",
    "\N{PRIME}": "'", "\N{ACUTE ACCENT}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": '"', "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
    "\N{DOUBLE LOW-9 QUOTATION MARK}": '"', "\N{DOUBLE PRIME}": '"',
    "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}": '"',
    "\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}": '"',
    "\N{EM DASH}": "--", "\N{HORIZONTAL BAR}": "--", "\N{EN DASH}": "-", "\N{FIGURE DASH}": "-",
    "\N{HYPHEN}": "-", "\N{NON-BREAKING HYPHEN}": "-", "\N{MINUS SIGN}": "-", "\N{SOFT HYPHEN}": "",
    "\N{LATIN SMALL LETTER AE}": "ae", "\N{LATIN CAPITAL LETTER AE}": "Ae",
    "\N{LATIN SMALL LIGATURE OE}": "oe", "\N{LATIN CAPITAL LIGATURE OE}": "Oe",
    "\N{LATIN SMALL LETTER SHARP S}": "ss", "\N{LATIN SMALL LETTER O WITH STROKE}": "o",
    "\N{LATIN CAPITAL LETTER O WITH STROKE}": "O", "\N{LATIN SMALL LETTER ETH}": "d",
    "\N{LATIN SMALL LETTER THORN}": "th", "\N{LATIN SMALL LETTER L WITH STROKE}": "l",
    "\N{MULTIPLICATION SIGN}": "x", "\N{ZERO WIDTH NO-BREAK SPACE}": "",
})

#: Share of characters without a spelling that is believed to be an accident.
_LOST_LIMIT = 0.01


@dataclass(frozen=True)
class Normalised:
    """A text for training."""

    #: Plain ASCII, one paragraph a line, the last one ended too.
    text:       str
    paragraphs: int
    #: Characters that have no spelling in ASCII and were left out.
    lost:       int


def normalise(text: str, name: str) -> Normalised:
    """Turn a book into text for training.

    Parameters
    ----------
    text : :class:`str`
        Plain text of Project Gutenberg, header and licence included; or any other plain text in which
        an empty line stands between paragraphs.
    name : :class:`str`
        What messages call it.

    Raises
    ------
    InputError
        If it is no plain text, was cut off, has no text in it, or is not written in Latin letters.
    """
    if "\0" in text:
        raise InputError(f"{name} must be plain text, but has a zero octet in it")
    if re.match(r"\s*<(?:!doctype|html|\?xml)", text, re.IGNORECASE):
        raise InputError(f"{name} must be plain text, not HTML; Project Gutenberg offers both")
    text = text.translate(_SPELLINGS).replace("\r\n", "\n").replace("\r", "\n")
    text = _ILLUSTRATION.sub("", _body(text, name)).replace("_", "")
    text = unicodedata.normalize("NFKD", text)
    # An accent is no loss, its letter stays.
    text  = "".join(character for character in text if not unicodedata.combining(character))
    ascii = text.encode("ascii", "ignore").decode("ascii")
    lost  = len(text) - len(ascii)
    if lost > _LOST_LIMIT * len(text):
        raise InputError(f"{name} must be written in Latin letters, but {lost} of its {len(text)} "
                         f"characters have no spelling in ASCII")
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n[ \t]*\n", ascii)]
    paragraphs = [paragraph for paragraph in paragraphs if paragraph]
    front      = [part for part in paragraphs[:_FRONT] if not _CREDITS.match(part)]
    paragraphs = front + paragraphs[_FRONT:]
    if not paragraphs:
        raise InputError(f"{name} must have at least one paragraph of text")
    return Normalised("".join(f"{paragraph}\n" for paragraph in paragraphs), len(paragraphs), lost)


def _body(text: str, name: str) -> str:
    """What stands between the marks of Project Gutenberg; everything, if it is not one of its files."""
    begins = list(_BEGIN.finditer(text))
    end    = _END.search(text, begins[0].end() if begins else 0)
    # The last one in front of the end: old books have a legal notice behind the first, or behind the end.
    begins = [mark for mark in begins if end is None or mark.end() <= end.start()]
    if begins and end:
        return text[begins[-1].end():end.start()]
    if begins:
        raise InputError(f"{name} begins as a book of Project Gutenberg, but has no line "
                         f"'*** END OF THE PROJECT GUTENBERG EBOOK'; it was cut off")
    if end or "Project Gutenberg" in text:
        raise InputError(f"{name} speaks of Project Gutenberg, but has no line "
                         f"'*** START OF THE PROJECT GUTENBERG EBOOK' in front of the text")
    return text
