"""The page for people: one file, with everything in it."""

import base64
import dataclasses
import hashlib
import re
from importlib.resources import files

__all__ = ["Page", "read"]


@dataclasses.dataclass(frozen=True)
class Page:
    """A page, and what a browser may do with it."""

    octets: bytes
    #: Content-Security-Policy: the script and the style that are in it, and this server; nothing else.
    policy: str


def read() -> Page:
    """The page that comes with the program."""
    text = files(__package__).joinpath("page.html").read_text("utf-8")

    def sources(element: str) -> str:
        found = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        hashes = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in found)
        return " ".join(f"'sha256-{value}'" for value in hashes)

    policy = (f"default-src 'none'; script-src {sources('script')}; style-src {sources('style')}; connect-src 'self'; "
              f"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    return Page(text.encode(), policy)
