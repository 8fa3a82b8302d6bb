"""augreg's docstrings are plain text; here they become reStructuredText.

`name` in single backticks is code, * and | mean themselves but where * begins an item, and lines that are indented after an empty
line, such as equations and small tables, are shown as they stand. In sections (Parameters, Raises) what stands behind the colon
of `name : text` is a description, since types are annotations; napoleon reads the sections afterwards.
"""

import re

_RULE = re.compile(r"^-{3,}$")
_ENTRY = re.compile(r"^(\w+(?:, \w+)*) : (.*)$")


def _escaped(line):
    """Code in backticks, everything else as it is read."""
    parts = re.split(r"(``[^`]+``|`[^`]+`)", line)
    return "".join(f"``{p.strip('`')}``" if k % 2 else re.sub(r"([*|\\]|_(?=\W|$))", r"\\\1", p) for k, p in enumerate(parts))


def plain(lines):
    """The same docstring as reStructuredText, a list of lines."""
    result, literal, before, section = [], None, "", False
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        following = lines[number + 1].strip() if number + 1 < len(lines) else ""
        section |= bool(_RULE.match(following))
        if literal is not None and line.strip() and indent < literal:
            literal = None
        if literal is None and not section and indent and line.strip() and not before.strip():
            literal = indent
            result += ["::", ""]
        entry = _ENTRY.match(line) if section else None
        if literal is not None or _RULE.match(line.strip()):
            result.append(line)
        elif entry:
            result += [entry[1], f"    {_escaped(entry[2])}"]
        elif line.startswith("* "):
            result.append(f"* {_escaped(line[2:])}")
        else:
            result.append(_escaped(line))
        before = line
    return result


def _process(app, what, name, obj, options, lines):
    lines[:] = plain(lines)


def setup(app):
    """Before napoleon, which reads the sections."""
    app.connect("autodoc-process-docstring", _process, priority=100)
    return {"parallel_read_safe": True}
