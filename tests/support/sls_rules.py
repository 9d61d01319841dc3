"""What must hold for the SLS of this project beyond Salt's own checks. Each rule returns sentences about what is wrong.

Most of them are about mistakes that Salt takes without a word and that then let a rollback not run, run on success, or
let a step seem to succeed that never ran.
"""

import ast
import functools
import importlib
import inspect
import re
from pathlib import Path

import salt.state
import salt.states.saltmod
from jinja2 import Environment, nodes
from minion_without_daemons import PROJECT
from salt.utils.jinja import SerializerExtension
from sls_tree import REMOTE

REQUISITES = {*salt.state.STATE_REQUISITE_KEYWORDS, *salt.state.STATE_REQUISITE_IN_KEYWORDS, "use", "use_in"}
REQUISITES -= {"onfail_stop"}
#: What every state accepts, whatever its function; the rest of Salt's own list is internal or forbidden here.
COMMON = {
    "name",
    "names",
    "failhard",
    "order",
    "parallel",
    "onlyif",
    "unless",
    "check_cmd",
    "creates",
    "onfail_stop",
}
COMMON |= {"reload_modules", "reload_grains", "reload_pillar", "umask", "runas"} | REQUISITES
#: Functions that an SLS may call while it is rendered: they only read, the pillar for the most part.
READS = {
    "ringfree_settings.get",
    "ringfree_asked.words",
    "ringfree_asked.plan",
    "ringfree_keep.store",
    "ringfree_nfs.fstab",
    "config.get",
    "config.option",
    "grains.get",
    "grains.filter_by",
    "match.filter_by",
    "mount.is_mounted",
    "pillar.get",
    "slsutil.merge",
    "slsutil.merge_all",
}


def targets_are_lists(compiled):
    """A glob or compound target that matches nothing, or less than was meant, is a success (H19)."""
    for step in compiled.steps:
        if step.is_("salt.state", "salt.function"):
            if step.arguments.get("tgt_type") != "list":
                yield f"{step.id}: tgt_type must be list"
            if not isinstance(step.arguments.get("tgt"), list):
                yield f"{step.id}: tgt must be a list of minion ids"


def functions_expect_their_minions(compiled):
    """Without it a dead minion is dropped from the result and the step succeeds (H16, H19)."""
    for step in compiled.steps:
        if step.is_("salt.function") and step.arguments.get("expect_minions") is not True:
            yield f"{step.id}: expect_minions must be True"
        if step.is_("salt.state") and step.arguments.get("expect_minions", True) is not True:
            yield f"{step.id}: expect_minions must stay True"


def states_have_a_timeout(compiled):
    """Without it one late answer of a busy node ends the step while its job still runs (H16)."""
    for step in compiled.steps:
        timeout = step.arguments.get("timeout")
        if step.is_("salt.state") and not (isinstance(timeout, int) and timeout > 0):
            yield f"{step.id}: timeout must be a number of seconds"


def arguments_are_known(compiled):
    """salt.state, salt.function and salt.runner take any argument and ignore what they do not know (H19)."""
    for step in compiled.steps:
        if step.state != REMOTE:
            continue
        known = COMMON | _parameters(getattr(salt.states.saltmod, step.function))
        if step.is_("salt.runner"):
            known |= _of_runner(step.name)
        for unknown in sorted(set(step.arguments) - known):
            yield f"{step.id}: {step.state}.{step.function} ({step.name}) knows no argument '{unknown}'"


def called_functions_exist(compiled):
    """A runner or function that does not exist is found out only when the step is reached, after a stop perhaps."""
    for step in compiled.steps:
        if step.is_("salt.runner"):
            try:
                _of_runner(step.name)
            except LookupError as error:
                yield f"{step.id}: {error}"
        if step.is_("salt.function"):
            try:
                known = _of("modules", step.name)
            except LookupError as error:
                yield f"{step.id}: {error}"
            else:
                for unknown in sorted(set(step.arguments.get("kwarg", {})) - known):
                    yield f"{step.id}: {step.name} knows no argument '{unknown}'"


def own_states_know_their_arguments(compiled):
    """A state with a misspelt argument must fail here and not on a node."""
    for step in compiled.steps:
        path = PROJECT / "_states" / f"{step.state}.py"
        if path.exists():
            try:
                known = COMMON | _of("states", f"{step.state}.{step.function}")
            except LookupError as error:
                yield f"{step.id}: {error}"
            else:
                for unknown in sorted(set(step.arguments) - known):
                    yield f"{step.id}: {step.state}.{step.function} knows no argument '{unknown}'"


def states_wait_for_a_highstate(compiled):
    """
    Without a queue a step fails while a highstate runs. Only a number waits: `true` leaves the step to be run later,
    when nobody expects it (H16, https://github.com/saltstack/salt/issues/68694).
    """
    for step in compiled.steps:
        queue = step.arguments.get("queue")
        if step.is_("salt.state") and not (type(queue) is int and queue >= 10):
            yield f"{step.id}: queue must be a number, at least 10"
        if not step.is_("salt.state") and "queue" in step.arguments:
            yield f"{step.id}: queue must not be used"


def nothing_is_repeated(compiled):
    """A repeated step runs beside itself (H16)."""
    for step in compiled.steps:
        for word in sorted({"concurrent", "retry"} & set(step.arguments)):
            yield f"{step.id}: {word} must not be used"


def failhard_and_onfail_are_apart(compiled):
    """failhard ends the run before any onfail step: no rollback (H19)."""
    hard = [step.id for step in compiled.steps if step.arguments.get("failhard")]
    rescue = [
        step.id for step in compiled.steps if {"onfail", "onfail_any", "onfail_all"} & set(step.arguments)
    ]
    if hard and rescue:
        yield f"failhard ({', '.join(hard)}) and onfail ({', '.join(rescue)}) must not be in one file"


def failhard_is_said(compiled):
    """Where a step is silent the master's own `failhard: True` counts: no way back, monitoring stays off (H36)."""
    for step in compiled.steps:
        if not isinstance(step.arguments.get("failhard"), bool):
            yield f"{step.id}: say failhard: true or failhard: false"


def test_mode_is_said(compiled):
    """Where a step is silent a minion's own `test: True` counts: a green run in which nothing happened (H36)."""
    for step in compiled.steps:
        if step.is_("salt.state") and not isinstance(step.arguments.get("test"), bool):
            yield f"{step.id}: say test: {{{{ opts['test'] | json }}}}"


def the_environment_is_said(compiled):
    """Where a step is silent a minion's own `saltenv` counts: other SLS, or none (H36)."""
    for step in compiled.steps:
        if step.is_("salt.state") and step.arguments.get("saltenv") != "base":
            yield f"{step.id}: say saltenv: base"


def requisites_are_lists(compiled):
    """`onfail:` with a mapping under it is not refused: it fires always (H19)."""
    for step in compiled.steps:
        for word in sorted(REQUISITES & set(step.arguments)):
            value = step.arguments[word]
            if not isinstance(value, list) or not all(_is_requisite(item) for item in value):
                yield f"{step.id}: {word} must be a list of `- module: ID`"


def rescue_steps_have_their_own_onfail(compiled):
    """A step that only requires an onfail step runs on success: the skipped one counts as good (H19)."""
    rescue = {(step.state, step.id) for step in compiled.steps if "onfail" in step.arguments}
    rescue |= {(step.state, step.name) for step in compiled.steps if "onfail" in step.arguments}
    for step in compiled.steps:
        if "onfail" in step.arguments:
            continue
        for word in ("require", "watch", "onchanges", "listen"):
            for item in _pairs(step.arguments.get(word)):
                if item in rescue:
                    yield f"{step.id}: {word}s {item[1]}, which is an onfail step, without an onfail of its own"


def rescue_steps_are_no_chain(compiled):
    """If the first of two fails, the second that requires it is skipped: the undo stops halfway (H19)."""
    rescue = {(step.state, step.id) for step in compiled.steps if "onfail" in step.arguments}
    for step in compiled.steps:
        if "onfail" in step.arguments:
            for item in _pairs(step.arguments.get("require")):
                if item in rescue:
                    yield f"{step.id}: an onfail step must not require another one ({item[1]})"


def pillar_is_handed_on(compiled):
    """A nested orchestration does not see the pillar that was given on the command line."""
    for step in compiled.steps:
        if step.is_nested_orchestration and not isinstance(step.arguments.get("pillar"), dict):
            yield f"{step.id}: a nested orchestration needs an explicit pillar"


def no_shell_is_used(compiled):
    """Words from pillar or config never reach a shell (H28). Commands are run by modules, from lists."""
    for step in compiled.steps:
        if step.state == "cmd":
            yield f"{step.id}: cmd.{step.function} must not be used"
        if step.is_("salt.function") and step.name.startswith("cmd."):
            yield f"{step.id}: {step.name} must not be used"
        if step.state == "module":
            yield from (f"{step.id}: {name} must not be used" for name in _run_by_module(step))
        for word in ("unless", "onlyif", "check_cmd"):
            value = step.arguments.get(word)
            items = value if isinstance(value, list) else [value]
            if value is not None and not all(isinstance(item, dict) for item in items):
                yield f"{step.id}: {word} must name functions and not commands"


def conditions_of_remote_steps_ask_the_master(compiled):
    """They are judged on the master, whatever the target: only a runner makes sense. check_cmd hides failures (H19)."""
    for step in compiled.steps:
        if step.state != REMOTE:
            continue
        for word in sorted({"check_cmd", "creates"} & set(step.arguments)):
            yield f"{step.id}: {word} must not be on a salt.{step.function} step"
        for word in ("unless", "onlyif"):
            for item in step.arguments.get(word) or []:
                if not isinstance(item, dict) or item.get("fun") != "saltutil.runner":
                    yield f"{step.id}: {word} of a salt.{step.function} step may only ask a runner"
                else:
                    yield from (f"{step.id}: {word}: {fault}" for fault in _faults_of_call(item))


def broken_steps_are_not_used(compiled):
    """salt.parallel_runners crashes on every supported version; the state event.send always fails on a master."""
    for step in compiled.steps:
        if step.is_("salt.parallel_runners") or (step.state == "event" and compiled.minion == "master"):
            yield f"{step.id}: {step.state}.{step.function} does not work in an orchestration"


#: All rules for what an SLS says.
RULES = [
    targets_are_lists,
    functions_expect_their_minions,
    states_have_a_timeout,
    arguments_are_known,
    called_functions_exist,
    own_states_know_their_arguments,
    states_wait_for_a_highstate,
    nothing_is_repeated,
    failhard_and_onfail_are_apart,
    failhard_is_said,
    test_mode_is_said,
    the_environment_is_said,
    requisites_are_lists,
    rescue_steps_have_their_own_onfail,
    rescue_steps_are_no_chain,
    pillar_is_handed_on,
    no_shell_is_used,
    conditions_of_remote_steps_ask_the_master,
    broken_steps_are_not_used,
]


def _jinja():
    return Environment(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols", SerializerExtension])


def calls_at_render_time(text):
    """The functions that a template calls through `salt`, as `module.function`; `salt` itself where it is handed on."""
    tree = _jinja().parse(text)
    called = [
        name for node in tree.find_all((nodes.Getitem, nodes.Getattr)) if (name := _name_after_salt(node))
    ]
    if len(called) < sum(1 for node in tree.find_all(nodes.Name) if _is_salt(node)):
        called.append("salt")
    return set(called)


def _name_after_salt(node):
    """`x.y` where a template says salt['x.y'] or salt.x.y."""
    inner = node.node
    if _is_salt(inner) and isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        return node.arg.value
    if isinstance(node, nodes.Getattr) and isinstance(inner, nodes.Getattr) and _is_salt(inner.node):
        return f"{inner.attr}.{node.attr}"
    return None


def renderers_are_said(text):
    """Where an SLS is silent the master's own `renderer` counts (H36)."""
    if not re.match(r"#!(jinja\|yaml|yaml)\n(?!#!)", text):
        yield "the first line must be #!jinja|yaml: no other renderers may be used"


def render_calls_only_read(text):
    """What runs while an SLS is rendered runs in test mode and for show_sls as well, and before the first step."""
    for name in sorted(calls_at_render_time(text) - READS):
        yield f"{name} must not be called while an SLS is rendered"


#: Filters after which a value is one value of YAML, whatever is in it.
QUOTING = ("json", "yaml_dquote")
#: What may stand around it on its line: it is the whole of an ID, of an argument, or of an entry of a list.
BEFORE, AFTER = re.compile(r"\s*(- )*([\w. ]+: )?\[?"), re.compile(r"\]?:?\s*")


def values_are_quoted(text):
    """Foreign text that reaches YAML as it is becomes states, which run as root on the master (H28)."""
    tokens = list(_jinja().lex(text))
    line, begin = "", None
    for index, (number, kind, value) in enumerate(tokens):
        if kind == "data":
            line = (line + value).rpartition("\n")[2]
        elif kind == "variable_begin":
            begin = index
        elif kind == "variable_end":
            source = "".join(token for _, _, token in tokens[begin + 1 : index])
            (output,) = _jinja().parse("{{" + source + "}}").body
            (expression,) = output.nodes
            after = "".join(
                token for _, what, token in tokens[index + 1 : index + 2] if what != "block_begin"
            )
            if _is_number_of_loop(expression) or isinstance(expression, (nodes.Const, nodes.TemplateData)):
                line += "1"
            elif not (isinstance(expression, nodes.Filter) and expression.name in QUOTING):
                yield f"line {number}: {source.strip()} does not end with one of the filters {', '.join(QUOTING)}"
            elif not BEFORE.fullmatch(line) or not AFTER.fullmatch(after.partition("\n")[0]):
                yield f"line {number}: {source.strip()} is a part of something: quote the whole of it"


def _is_number_of_loop(node):
    return isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name) and node.node.name == "loop"


def links_out_of_bounds(salt_root):
    """What lies under file_roots is read by every minion: no link leads to the pillar or out of the project (H29)."""
    salt_root = Path(salt_root)
    project = salt_root.parent.resolve()
    allowed = {project / f"_{kind}" for kind in ("modules", "states", "utils", "runners")}
    for path in sorted(salt_root.rglob("*")):
        if path.is_symlink() and path.resolve() not in allowed:
            yield f"{path.relative_to(salt_root)} leads to {path.resolve()}"
        elif path.name == "pillar" or (path.name == "top.sls" and path.parent != salt_root):
            yield f"{path.relative_to(salt_root)} does not belong under file_roots"


def _faults_of_call(item):
    """What is wrong with a runner and its arguments in an unless or onlyif."""
    try:
        known = _of_runner(item.get("name", ""))
    except LookupError as error:
        return [str(error)]
    return [
        f"{item['name']} knows no argument '{word}'" for word in sorted(set(item) - known - {"fun", "name"})
    ]


def _is_requisite(item):
    return isinstance(item, str) or (
        isinstance(item, dict)
        and len(item) == 1
        and all(isinstance(value, (str, list)) for value in item.values())
    )


def _pairs(requisites):
    """(module, ID) of each requisite."""
    items = requisites if isinstance(requisites, list) else []
    return [
        pair for item in items if isinstance(item, dict) for pair in item.items() if isinstance(pair[1], str)
    ]


def _run_by_module(step):
    """Functions of cmd that module.run or module.wait would run."""
    named = [step.arguments.get("name", ""), *step.arguments]
    return [name for name in named if str(name).startswith("cmd.")]


def _is_salt(node):
    return isinstance(node, nodes.Name) and node.name in ("salt", "__salt__")


def _parameters(function):
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name for name, parameter in inspect.signature(function).parameters.items() if parameter.kind in kinds
    }


def _of_runner(name):
    return _of("runners", name)


@functools.cache
def _of(kind, name):
    """The arguments of a function of the project or of Salt; LookupError when there is no such function."""
    module, _, function = name.partition(".")
    path = PROJECT / f"_{kind}" / f"{module}.py"
    if path.exists():
        return _of_source(path, function)
    signatures = []
    for imported in map(importlib.import_module, _files_of_salt(kind).get(module, [])):
        aliases = {alias: real for real, alias in getattr(imported, "__func_alias__", {}).items()}
        found = getattr(imported, aliases.get(function, function), None)
        signatures += [_parameters(found)] if found else []
    if not signatures:
        raise LookupError(f"there is no {name}")
    return set().union(*signatures)


@functools.cache
def _files_of_salt(kind):
    """The Python modules behind each name: `pkg` is several, one for each kind of system."""
    names = {}
    for path in (Path(salt.__file__).parent / kind).glob("*.py"):
        virtual = re.search(r"""^__virtualname__ = ["'](\w+)["']""", path.read_text(encoding="utf-8"), re.M)
        names.setdefault(virtual.group(1) if virtual else path.stem, []).append(f"salt.{kind}.{path.stem}")
    return names


def _of_source(path, function):
    """Read from the source, because outside of Salt's loader the file lacks its dunders."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    aliases = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__func_alias__":
            aliases = {value: key for key, value in ast.literal_eval(node.value).items()}
    wanted = aliases.get(function, function)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == wanted and not wanted.startswith("_"):
            return {
                argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            }
    raise LookupError(f"there is no {path.stem}.{function}")
