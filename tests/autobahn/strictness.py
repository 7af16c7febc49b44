"""Says from a case's report whether the case may end NON-STRICT."""


def echo_was_overtaken(case):
    """Whether a good message was followed by a frame that breaks the protocol, and the close came before the echo.

    `case` is the suite's report of it. The suite would like each good message echoed before the connection is failed.
    The host does the echo, through its event queue; by then the library may have read on and closed with 1002, after
    which nothing may be sent (RFC 6455, section 5.5.1). How many are echoed depends on what arrives together, and on
    the machine. The suite says that none is correct, too, if not strict.
    """
    good, closed, got = case["expected"].get("OK", []), case["expectedClose"], case["received"]
    breaks_the_protocol = not closed["closedByMe"] and closed["closeCode"] == [1002]
    has_good_messages = bool(good) and all(event[0] == "message" for event in good)
    return has_good_messages and breaks_the_protocol and got == good[: len(got)] and case["remoteCloseCode"] == 1002
