r"""EDN, the notation of Clojure's data: a tolerant reader that streams, and a writer. Values are JSON's in between.

Knows the notation and which JSON value stands for which form. Does not know what a history is.

| EDN | JSON |
|---|---|
| nil, true, false, integers (also `7N`, `0x1f`), floats | the same |
| keyword `:a/b` | the string `":a/b"` |
| string | the same string, but one that looks like a keyword gets one more colon: `"::a"` for `":a"` |
| character | a string of one character |
| list, vector | list |
| set | list of its members, sorted by their text |
| map | object; its keys are made as above, and keys that are no strings then are the key's EDN text |
| ratio | `{"#ratio": "1/3"}`, an integer if it is whole |
| `1.5M` | `{"#decimal": "1.5"}` (1.50M is the same), an integer if it is whole and not astronomically large |
| symbol | `{"#symbol": "name"}` |
| `##NaN`, `##Inf`, `##-Inf` | `{"#number": "NaN"}` and so on |
| `#"regex"` | `{"#regex": "regex"}` |
| `#tag value`, whatever the tag, also `#:namespace{…}` | `{"#tag": value}` |

A map with one key, a string that looks like such a tag, gets one more `#` there. So only these look alike in JSON:
characters and strings; lists, vectors and sets; keys like `1` and `"1"`, which are refused in one map. In the other
direction nothing is lost: every JSON value that is written comes back as it was.
"""

import json
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Final, NamedTuple

NESTING_MAX: Final = 102  # as in JSON lines, and around it an operation's map and a tuple
_WHOLE_DIGITS_MAX: Final = 400  # of a decimal that becomes an integer: 1E+999999999M would fill the memory
_KNOWN_ATOMS_MAX: Final = 1_000  # of those that are remembered, because most words of a history come again and again

_NAME: Final = r'[^\s,;"\\()\[\]{}@^`~]'  # a character of a keyword, a symbol or a number
_TOKEN: Final = re.compile(
    rf'[\s,]*(#?"(?:[^"\\]|\\.)*"|#?".*|[()\[\]{{}}]|#[{{_]|;.*|\\.{_NAME}*|{_NAME}+|.)', re.DOTALL
)
_REST_OF_STRING: Final = re.compile(r'((?:[^"\\]|\\.)*")(.*)', re.DOTALL)
_STRING: Final = re.compile(r'#?"(?:[^"\\]|\\.)*"', re.DOTALL)
_INTEGER: Final = re.compile(r"([+-]?(?:0|[1-9][0-9]*))N?")
_HEXADECIMAL: Final = re.compile(r"[+-]?0x[0-9a-fA-F]{1,1000}")
_FLOAT: Final = re.compile(r"([+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)(M?)")
_RATIO: Final = re.compile(r"[+-]?[0-9]+/0*[1-9][0-9]*")
_KEYWORD: Final = re.compile(rf":(?![:/])(?!{_NAME}*::){_NAME}*(?<![:/])")
_LIKE_KEYWORD: Final = re.compile(rf":*{_KEYWORD.pattern}")
_SYMBOL: Final = re.compile(rf"(?![0-9:#]|[+-][0-9]){_NAME}+")
_TAG: Final = re.compile(rf"#(?::?[^\W\d_]){_NAME}*")
_LIKE_TAG: Final = re.compile(rf"#*{_TAG.pattern}")
_OCTAL: Final = re.compile("[0-3]?[0-7]{1,2}")
_ESCAPE: Final = re.compile(rf"\\(u[0-9a-fA-F]{{4}}|{_OCTAL.pattern}|.)", re.DOTALL)
_ESCAPES: Final = {"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f", '"': '"', "\\": "\\"}
_CHARACTERS: Final = {
    "newline": "\n",
    "return": "\r",
    "space": " ",
    "tab": "\t",
    "backspace": "\b",
    "formfeed": "\f",
}
_CLOSING: Final = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_CONSTANTS: Final = {"nil": None, "true": True, "false": False}
_NUMBERS: Final = ("NaN", "Inf", "-Inf")


class Unreadable(ValueError):
    """Text that is no EDN. `line` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        self.line = line
        self.reason = reason
        super().__init__(f"line {line}: {reason}")


class _Frame(NamedTuple):
    """Something that is open: a collection, or a prefix that waits for its form. `items`: of what is around it."""

    opening: str
    line: int
    items: list[Any]


class _Reader:
    """Takes lines and hands out the forms that they complete."""

    def __init__(self) -> None:
        self._frames: list[_Frame] = []
        self._items: list[Any] = []  # of the innermost frame; at the top those that are complete
        self._outer: _Frame | None = None  # the one sequence around everything, whose items are handed out one by one
        self._tag: str | None = None  # what stood alone before a form at the top
        self._began = 0  # the line of the form at the top
        self._string: list[str] = []  # the parts of a string that goes on in the next line
        self._known: dict[str, Any] = dict(_CONSTANTS)

    def take(self, number: int, line: str) -> Iterator[tuple[int, Any]]:
        """The forms that are complete with this line, each with the number of the line where it began."""
        if self._string:
            rest = _REST_OF_STRING.fullmatch(line)
            if rest is None:
                self._string.append(line)
                return
            self._add(_string(number, "".join((*self._string, rest[1]))))
            self._string.clear()
            line = rest[2]
        known, frames = self._known, self._frames
        for token in _TOKEN.findall(line):
            if token in known and frames and frames[-1].opening in _CLOSING:
                self._items.append(known[token])
            else:
                self._token(number, token)
                if not frames and self._items:
                    yield self._began, self._items.pop()

    def end(self, number: int) -> None:
        """Refuses what is still open."""
        if self._string:
            raise Unreadable(number, "is cut off: a string is not closed")
        frame = self._frames[-1] if self._frames else self._outer
        if frame is not None:
            raise Unreadable(number, f"is cut off: the {frame.opening} of line {frame.line} is not closed")
        if self._tag is not None:
            raise Unreadable(number, f"is cut off after {self._tag}")

    def _token(self, number: int, token: str) -> None:
        if token[0] in ";," or token.isspace():
            return
        if not self._frames and not self._top(number, token):
            return
        if token in _CLOSING:
            self._open(number, token)
        elif token in ")]}":
            self._close(number, token)
        elif token == "#_" or (token[0] == "#" and _TAG.fullmatch(token)):
            self._open(number, token)
        elif token[0] == '"' or token.startswith('#"'):
            if _STRING.fullmatch(token):
                self._add(_string(number, token))
            else:
                self._string.append(token)
        else:
            self._add(self._atom(number, token))

    def _top(self, number: int, token: str) -> bool:
        """Whether a token at the top belongs to a form. Tags there are dropped: they name the records' class."""
        if _TAG.fullmatch(token):
            self._tag = token
            return False
        self._tag = None
        self._began = number
        if token in ("[", "(") and self._outer is None:
            self._outer = _Frame(token, number, [])
            return False
        if self._outer is not None and token == _CLOSING[self._outer.opening]:
            self._outer = None
            return False
        return True

    def _open(self, number: int, token: str) -> None:
        if len(self._frames) >= NESTING_MAX:
            raise Unreadable(number, f"is nested deeper than {NESTING_MAX} levels")
        self._frames.append(_Frame(token, number, self._items))
        self._items = []

    def _close(self, number: int, token: str) -> None:
        if not self._frames:
            raise Unreadable(number, f"has a {token} that nothing opened")
        opening, line, around = self._frames[-1]
        if _CLOSING.get(opening) != token:
            raise Unreadable(number, f"has a {token} where the {opening} of line {line} is open")
        self._frames.pop()
        items, self._items = self._items, around
        self._add(_map(number, items) if opening == "{" else _sorted(items) if opening == "#{" else items)

    def _add(self, value: Any) -> None:
        while self._frames and self._frames[-1].opening not in _CLOSING:  # prefixes: they have what they waited for
            prefix, _, self._items = self._frames.pop()
            if prefix == "#_":
                return
            value = {prefix: value}
        self._items.append(value)

    def _atom(self, number: int, token: str) -> Any:
        if token in self._known:
            return self._known[token]
        value = _atom(number, token)
        if len(self._known) < _KNOWN_ATOMS_MAX:
            self._known[token] = value
        return value


def forms(lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    """The forms of a text as JSON values, each with the number of the line where it begins; Unreadable if it is no EDN.

    A list or vector at the top is taken for what holds the forms, and a tag at the top is dropped.
    """
    reader = _Reader()
    number = 1
    for number, line in enumerate(lines, start=1):
        yield from reader.take(number, line)
    reader.end(number)


def _map(number: int, items: list[Any]) -> dict[str, Any]:
    if len(items) % 2:
        raise Unreadable(number, "has a map with a key that has no value")
    keys = [item if isinstance(item, str) else text(item) for item in items[::2]]
    if len(keys) == 1 and isinstance(items[0], str) and _LIKE_TAG.fullmatch(keys[0]):
        keys[0] = f"#{keys[0]}"
    made = dict(zip(keys, items[1::2], strict=True))
    if len(made) != len(keys):
        twice = next(key for place, key in enumerate(keys) if key in keys[:place])
        raise Unreadable(number, f"has a map in which two keys read {twice}")
    return made


def _sorted(items: list[Any]) -> list[Any]:
    return sorted(items, key=text)


def _string(number: int, token: str) -> Any:
    if token[0] == "#":
        return {"#regex": _unicode(number, token[2:-1])}
    inner = token[1:-1]
    if "\\" in inner:
        inner = _unicode(number, _ESCAPE.sub(lambda match: _unescaped(number, match[1]), inner))
    return f":{inner}" if _LIKE_KEYWORD.fullmatch(inner) else inner


def _unescaped(number: int, escape: str) -> str:
    if escape in _ESCAPES:
        return _ESCAPES[escape]
    if len(escape) == 5:
        return chr(int(escape[1:], 16))
    if not _OCTAL.fullmatch(escape):
        raise Unreadable(number, f"has a string with {_shown(chr(92) + escape)}")
    return chr(int(escape, 8))


def _unicode(number: int, string: str) -> str:
    """With the halves of characters, which Java writes as two escapes, put together."""
    try:
        return string.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise Unreadable(number, "has half of a character") from None


def _atom(number: int, token: str) -> Any:
    first = token[0]
    if first == ":":
        if _KEYWORD.fullmatch(token):
            return token
    elif first == "\\":
        return _character(number, token)
    elif first == "#":
        if token.startswith("##") and token[2:] in _NUMBERS:
            return {"#number": token[2:]}
        if token.startswith("#'"):
            return {"#symbol": token}
    elif first in "+-0123456789" and token not in "+-" and not _SYMBOL.fullmatch(token):
        return _number(number, token)
    elif _SYMBOL.fullmatch(token):
        return {"#symbol": token}
    raise Unreadable(number, f"has {_shown(token)}, which is no EDN")


def _shown(token: str) -> str:
    return ascii(token if len(token) <= 40 else token[:40] + "…")


def _character(number: int, token: str) -> str:
    name = token[1:]
    if len(name) == 1:
        return name
    if name in _CHARACTERS:
        return _CHARACTERS[name]
    if len(name) == 5 and _ESCAPE.fullmatch(token):
        return _unicode(number, chr(int(name[1:], 16)))
    if name[:1] == "o" and _OCTAL.fullmatch(name[1:]):
        return chr(int(name[1:], 8))
    raise Unreadable(number, f"has the character {_shown(token)}, which there is not")


def _number(number: int, token: str) -> Any:
    try:
        if whole := _INTEGER.fullmatch(token):
            return int(whole[1])
        if _HEXADECIMAL.fullmatch(token):
            return int(token, 16)
        if _RATIO.fullmatch(token):
            return _ratio(token)
        if match := _FLOAT.fullmatch(token):
            return _decimal(match[1]) if match[2] else _float(match[1])
    except (ValueError, InvalidOperation):  # more digits than Python takes
        raise Unreadable(number, f"has a number that is too large: {_shown(token)}") from None
    raise Unreadable(number, f"has {_shown(token)}, which is no number")


def _float(token: str) -> float:
    value = float(token)
    if value in (float("inf"), float("-inf")):
        raise ValueError
    return value


def _ratio(token: str) -> Any:
    ratio = Fraction(token)
    return ratio.numerator if ratio.denominator == 1 else {"#ratio": str(ratio)}


def _decimal(token: str) -> Any:
    value = Decimal(token)
    if not value or (value.adjusted() < _WHOLE_DIGITS_MAX and value == value.to_integral_value()):
        return int(value)
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    while not digits[-1]:
        digits, exponent = digits[:-1], exponent + 1
    return {"#decimal": str(Decimal((sign, digits, exponent)))}


# --- writing ---


def text(value: Any) -> str:
    """A JSON value as EDN on one line, such that reading gives that value again."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _string_text(value)
    if isinstance(value, dict):
        return _dict_text(value)
    return f"[{' '.join(map(text, value))}]"


def quoted(string: str) -> str:
    """A string as an EDN string, whatever it looks like."""
    return json.dumps(string, ensure_ascii=False)


def is_name(string: str) -> bool:
    """Whether a colon before it makes a keyword."""
    return _KEYWORD.fullmatch(f":{string}") is not None


def _string_text(string: str) -> str:
    if string[:1] != ":" or not _LIKE_KEYWORD.fullmatch(string):
        return quoted(string)
    return string if string[1] != ":" else quoted(string[1:])


def _dict_text(value: dict[str, Any]) -> str:
    keys = list(value)
    if len(value) == 1 and _LIKE_TAG.fullmatch(keys[0]):
        if keys[0][1] != "#":
            return _literal(keys[0], value[keys[0]])
        keys = [keys[0][1:]]
    pairs = (f"{_string_text(key)} {text(item)}" for key, item in zip(keys, value.values(), strict=True))
    return f"{{{', '.join(pairs)}}}"


def _literal(tag: str, value: Any) -> str:
    """A tagged value; without the tag if what it stands for has a notation of its own."""
    if isinstance(value, str):
        bare = {"#ratio": value, "#decimal": f"{value}M", "#symbol": value, "#number": f"##{value}"}.get(tag)
        if bare is not None and _TOKEN.fullmatch(bare) and bare not in _CONSTANTS:
            try:
                if _atom(0, bare) == {tag: value}:
                    return bare
            except Unreadable:
                pass
    return f"{tag} {text(value)}"
