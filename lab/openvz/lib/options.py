"""getopt_long() of the GNU C library: abbreviations, options after words, and its messages."""

import text


class Option:
    """A long option: same_as tells which options mean the same, so that an abbreviation of both is none too short."""

    def __init__(self, name, argument, same_as=None):
        self.name, self.argument, self.same_as = name, argument, same_as or name


def _find(options, name):
    """Return the options that a name can mean; one exact match, or several only if they differ in meaning."""
    exact = [option for option in options if option.name == name]
    if exact:
        return exact[:1]
    found = [option for option in options if option.name.startswith(name)]
    if any((option.same_as, option.argument) != (found[0].same_as, found[0].argument) for option in found):
        return found
    return found[:1]


class Reader:
    """Iterate over the options of a command line as (name, value); an error is (None, None), with its message printed.

    shorts is as in C: a letter, and a colon behind it if it takes an argument. The words that are no options are in
    `words` when the iteration has ended.
    """

    def __init__(self, program, arguments, options, shorts=""):
        self.program, self.options, self.shorts = program, options, shorts
        self.left, self.words = list(arguments), []

    def __iter__(self):
        while self.left:
            word = self.left.pop(0)
            if word == "--":
                self.words += self.left
                self.left = []
            elif word.startswith("--"):
                yield self._long(word[2:])
            elif word.startswith("-") and len(word) > 1:
                yield from self._short(word[1:])
            else:
                self.words.append(word)

    def _fail(self, message):
        text.write(2, f"{self.program}: {message}\n")
        return None, None

    def _long(self, word):
        name, equals, value = word.partition("=")
        found = _find(self.options, name)
        if not found:
            return self._fail(f"unrecognized option '--{word}'")
        if len(found) > 1:
            names = " ".join(f"'--{option.name}'" for option in found)
            return self._fail(f"option '--{word}' is ambiguous; possibilities: {names}")
        option = found[0]
        if not option.argument:
            if equals:
                return self._fail(f"option '--{option.name}' doesn't allow an argument")
            return option.name, None
        if not equals and not self.left:
            return self._fail(f"option '--{option.name}' requires an argument")
        return option.name, value if equals else self.left.pop(0)

    def _short(self, letters):
        while letters:
            letter, letters = letters[0], letters[1:]
            at = self.shorts.find(letter)
            if at == -1 or letter == ":":
                yield self._fail(f"invalid option -- '{letter}'")
            elif self.shorts[at + 1 : at + 2] != ":":
                yield "-" + letter, None
            elif letters or self.left:
                yield "-" + letter, letters or self.left.pop(0)
                return
            else:
                yield self._fail(f"option requires an argument -- '{letter}'")
