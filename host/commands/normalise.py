"""``terngen normalise``."""

from pathlib import Path

import click

__all__ = ["normalise"]


@click.command()
@click.argument("books", metavar="BOOK...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True,
              help="Text file to write.")
@click.option("--encoding", default="utf-8", show_default=True,
              help="Of the books; old ones of Project Gutenberg are in latin-1.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def normalise(books: tuple[Path, ...], output: Path, encoding: str, as_json: bool) -> None:
    """Turn books into text for `terngen train`: plain ASCII, one paragraph a line.

    A book is a plain text of Project Gutenberg as it is downloaded; its header and its licence are left
    out. The books follow each other in one file. Other plain texts will do, if an empty line stands
    between their paragraphs.
    """
    from terngen.host.commands.console import emit
    from terngen.host.files import read_text, replacing
    from terngen.host.normalise import normalise as normalised

    try:
        "a".encode(encoding)
    except LookupError as error:
        raise click.UsageError(f"Encoding must be one that Python knows, not {encoding!r}") from error
    texts = [normalised(read_text(path, encoding=encoding), f"Book {path}") for path in books]
    with replacing(output) as file:
        for text in texts:
            file.write(text.text.encode("ascii"))
    report = {"output": str(output), "books": len(texts), "octets": sum(len(text.text) for text in texts),
              "paragraphs": sum(text.paragraphs for text in texts), "lost": sum(text.lost for text in texts)}
    emit(as_json, report, [f"{output}: {report['octets']} octets, {report['paragraphs']} paragraphs of "
                           f"{report['books']} books, {report['lost']} characters left out"])
