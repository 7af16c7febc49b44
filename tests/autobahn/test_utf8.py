"""Text is UTF-8 (RFC 6455, section 8.1). Other text is noticed at its first wrong byte."""

import pytest
from peer import BINARY, CONTINUATION, TEXT, fragments, frame

GOOD = {
    "one to four bytes": "a ß € 😀",
    "the first of each length": "\0\x80\u0800\U00010000",
    "the last of each length": "\x7f\u07ff\uffff\U0010ffff",
    "around the surrogates": "\ud7ff\ue000",
    "no characters": "\ufffe\ufdd0\U0001fffe\U0010fffe",
    "replacement and byte order marks": "\ufeff\ufffd",
    "greek": "κόσμε",
    "a NUL in the middle": "a\0b",
}
# The bytes before the first wrong byte, then that byte.
BAD = {
    "continuation alone": (b"", b"\x80"),
    "continuation after a character": (b"\xc3\x9f", b"\xbf"),
    "two bytes cut by ASCII": (b"\xc3", b"a"),
    "three bytes cut by ASCII": (b"\xe2\x82", b"a"),
    "four bytes cut by a lead": (b"\xf0\x9f\x98", b"\xc3"),
    "NUL in two bytes": (b"", b"\xc0"),
    "slash in two bytes": (b"ok", b"\xc1"),
    "overlong in three bytes": (b"\xe0", b"\x9f"),
    "overlong in four bytes": (b"\xf0", b"\x8f"),
    "first surrogate": (b"\xed", b"\xa0"),
    "last surrogate": (b"\xed", b"\xbf"),
    "beyond the last character": (b"\xf4", b"\x90"),
    "lead of beyond": (b"", b"\xf5"),
    "five bytes": (b"", b"\xf8"),
    "six bytes": (b"", b"\xfc"),
    "FE": (b"", b"\xfe"),
    "FF": (b"", b"\xff"),
}
LONG = "ascii ".encode() * 5000


def each(table):
    return pytest.mark.parametrize("what", table)


def bytewise(text):
    return [text[n : n + 1] for n in range(len(text))]


@each(GOOD)
@pytest.mark.parametrize("how", ["whole", "a fragment a byte", "a byte at a time", "after much"])
def test_good_text_comes_back(peer, what, how):
    text = GOOD[what].encode()
    if how == "after much":
        text = LONG + text
    peer.send(*(fragments(TEXT, *bytewise(text)) if how == "a fragment a byte" else [frame(TEXT, text)]),
              chop=1 if how == "a byte at a time" else None)  # fmt: skip
    peer.expect((TEXT, text))
    peer.close()


@each(BAD)
@pytest.mark.parametrize("how", ["whole", "a fragment a byte", "a byte at a time", "after much"])
def test_bad_text_is_an_error(peer, what, how):
    text = b"".join(BAD[what]) + b" and on"
    if how == "after much":
        text = LONG + text
    if how == "a byte at a time":
        # The server may be gone before all is sent.
        text = b"".join(BAD[what])
    peer.send(*(fragments(TEXT, *bytewise(text)) if how == "a fragment a byte" else [frame(TEXT, text)]),
              chop=1 if how == "a byte at a time" else None)  # fmt: skip
    peer.expect_closed(1007)


@each(BAD)
def test_it_is_noticed_before_the_fragment_ends(peer, what):
    """Only a part of the frame is sent, up to the wrong byte."""
    text = "ß".encode() + b"".join(BAD[what])
    whole = frame(TEXT, text + b" and more that is never sent")
    peer.send(whole[: 6 + len(text)])
    peer.expect_closed(1007)


@each(BAD)
def test_it_is_noticed_before_the_message_ends(peer, what):
    good, bad = BAD[what]
    peer.send(frame(TEXT, "begun ", fin=False), frame(CONTINUATION, good, fin=False))
    # These bytes may still become text.
    peer.expect_alive()
    peer.send(frame(CONTINUATION, bad, fin=False))
    peer.expect_closed(1007)


@pytest.mark.parametrize("cut", [b"\xc3", b"\xe2\x82", b"\xf0\x9f", b"\xf0\x9f\x98"])
@pytest.mark.parametrize("last", [b"", None])
def test_a_character_cut_by_the_end_is_an_error(peer, cut, last):
    payloads = ["begun ", cut] if last is None else ["begun ", cut, last]
    peer.send(*fragments(TEXT, *payloads))
    peer.expect_closed(1007)


@each(BAD)
def test_bytes_may_be_anything(peer, what):
    data = b"".join(BAD[what])
    peer.send(frame(BINARY, data), *fragments(BINARY, *bytewise(data)))
    peer.expect((BINARY, data), (BINARY, data))
    peer.close()
