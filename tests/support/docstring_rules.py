"""What Salt's users expect of docstrings: `salt-call sys.doc` and `sys.state_doc` print them."""

import ast
import inspect
import re
from dataclasses import dataclass
from itertools import pairwise

import yaml


@dataclass(frozen=True)
class Source:
    """One Python file that Salt loads; `kind` is modules, states, runners or utils."""

    kind: str
    name: str
    tree: ast.Module

    @classmethod
    def read(cls, path):
        """Parse a file of _modules, _states, _runners or _utils."""
        return cls(path.parent.name.strip("_"), path.stem, ast.parse(path.read_text(encoding="utf-8")))

    @property
    def assigned(self):
        """Names to values of the constants at the top of the file."""
        found = {}
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                try:
                    found[node.targets[0].id] = ast.literal_eval(node.value)
                except ValueError:
                    continue
        return found

    @property
    def functions(self):
        """The public functions."""
        return [node for node in self.tree.body if _is_function(node) and not node.name.startswith("_")]

    def offered_as(self, function):
        """The name under which Salt offers a function."""
        return f"{self.name}.{self.assigned.get('__func_alias__', {}).get(function.name, function.name)}"


def file_is_described(source):
    """Every file says what it is for."""
    if not ast.get_docstring(source.tree):
        yield f"{source.name}: the file has no docstring"


def file_says_whether_it_loads(source):
    """Execution and state modules load only where they can work, under their own name."""
    if source.kind in ("modules", "states"):
        if not any(_is_function(node) and node.name == "__virtual__" for node in source.tree.body):
            yield f"{source.name}: no __virtual__"
        if source.assigned.get("__virtualname__") != source.name:
            yield f"{source.name}: __virtualname__ must be {source.name}"


def functions_are_described(source):
    """Every public function says in its first line what it is about."""
    for function in source.functions:
        if not (ast.get_docstring(function) or "").strip():
            yield f"{source.offered_as(function)}: no docstring"


def functions_have_an_example(source):
    """One that can be typed for what is called, one that can be pasted for states."""
    for function in source.functions:
        name = source.offered_as(function)
        if source.kind == "states":
            yield from _state_example(name, function)
        elif source.kind in ("modules", "runners"):
            yield from _command_example(name, function, "salt-run" if source.kind == "runners" else "salt")


def arguments_are_described(source):
    """Every argument by its name on a line of its own, with its default, and no other arguments."""
    if source.kind == "utils":
        return
    for function in source.functions:
        name, described = source.offered_as(function), _described(function)
        defaults = _defaults(function, source.assigned)
        for argument in defaults:
            if argument not in described:
                yield f"{name}: the argument {argument} is not described"
        for argument, default in described.items():
            if argument not in defaults:
                yield f"{name}: {argument} is described but is no argument"
            elif default is not None and default.strip("`'\"") != str(defaults[argument]).strip("'\""):
                yield f"{name}: {argument} has the default {defaults[argument]} and not {default}"


#: All rules about docstrings.
RULES = [
    file_is_described,
    file_says_whether_it_loads,
    functions_are_described,
    functions_have_an_example,
    arguments_are_described,
]


def _is_function(node):
    return isinstance(node, ast.FunctionDef)


def _blocks(function, language):
    """The code blocks of a language in a docstring."""
    text = ast.get_docstring(function) or ""
    pattern = rf"^( *)\.\. code-block:: {language}\n((?:\1 +.*\n|[ ]*\n)+)"
    return [inspect.cleandoc(match.group(2)) for match in re.finditer(pattern, text + "\n", re.M)]


def _command_example(name, function, command):
    if not re.search(r"^CLI Examples?:$", ast.get_docstring(function) or "", re.M):
        yield f"{name}: no line 'CLI Example:'"
    lines = [line for block in _blocks(function, "bash") for line in block.splitlines()]
    if not any(re.match(rf"{command}(-call)? .*{re.escape(name)}(\s|$)", line) for line in lines):
        yield f"{name}: no code-block:: bash with '{command} ... {name}'"


def _state_example(name, function):
    blocks = [yaml.safe_load(block) for block in _blocks(function, "yaml")]
    bodies = [body for block in blocks if isinstance(block, dict) for body in block.values()]
    used = [key for body in bodies for key in ([body] if isinstance(body, str) else body)]
    if name not in used:
        yield f"{name}: no code-block:: yaml that uses {name}"


def _described(function):
    """Arguments in a docstring, each with the default that is named there or None."""
    lines = (ast.get_docstring(function) or "").splitlines()
    found = {}
    for line, following in pairwise([*lines, ""]):
        match = re.fullmatch(r"\*{0,2}(\w+)(?: : (.+))?", line)
        if match and following.startswith("    "):
            found[match.group(1)] = match.group(2)
    return found


def _defaults(function, constants):
    """Arguments of a function, each with its default as text; *args and **kwargs are left out."""
    arguments = [*function.args.posonlyargs, *function.args.args]
    without = [None] * (len(arguments) - len(function.args.defaults))
    pairs = list(zip(arguments, without + function.args.defaults, strict=True))
    pairs += list(zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True))
    return {argument.arg: _text(default, constants) for argument, default in pairs}


def _text(default, constants):
    if default is None:
        return None
    if isinstance(default, ast.Name) and default.id in constants:
        return repr(constants[default.id])
    return ast.unparse(default)
