"""Scripts with which a shell completes the verbs, their options and the names of presets."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from pssr2_monai.bundle import preset_names, training_ids
from pssr2_monai.cli.arguments import Verb
from pssr2_monai.errors import UsageError, nearest

EVERYWHERE = ("debug", "help", "json")  # switches of every verb


def completion_script(shell: str, verbs: Sequence[Verb]) -> str:
    """Return the script for a shell."""
    if shell not in SCRIPTS:
        known = ", ".join(SCRIPTS)
        raise UsageError(f"completion: there is no script for {shell!r}{nearest(shell, SCRIPTS)}; use {known}")
    return SCRIPTS[shell](verbs)


def _options(verb: Verb) -> tuple[list[str], list[str]]:
    """The names of the options that take a value, and of the switches."""
    ids = {name: name for name in training_ids() if name not in verb.options} if verb.ids else {}
    names = {name: name.replace("_", "-") for name in verb.options if name not in verb.places} | ids
    valued = [shown for name, shown in names.items() if name not in verb.switches]
    switches = [shown for name, shown in names.items() if name in verb.switches]
    return [*valued, "import"], [*switches, *EVERYWHERE]


def _flags(verb: Verb) -> str:
    return " ".join(f"--{name}" for names in _options(verb) for name in names)


def _bash(verbs: Sequence[Verb]) -> str:
    flags = "\n".join(f'            {verb.name}) words="{_flags(verb)}" ;;' for verb in verbs)
    return f"""\
_pssr2() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words="" begun=""
    [[ $current == = ]] && current=""
    [[ $before == = ]] && before=${{COMP_WORDS[COMP_CWORD-2]}}
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        words="{" ".join(verb.name for verb in verbs)}"
    elif [[ $before == --preset ]]; then
        words="{" ".join(preset_names())}"
        [[ $current == *,* ]] && begun="${{current%,*}},"
    elif [[ $current == -* ]]; then
        case ${{COMP_WORDS[1]}} in
{flags}
        esac
    elif [[ ${{COMP_WORDS[1]}} == completion ]]; then
        words="{" ".join(SCRIPTS)}"
    fi
    COMPREPLY=($(compgen -P "$begun" -W "$words" -- "${{current##*,}}"))
}}
complete -o default -F _pssr2 pssr2"""


def _zsh(verbs: Sequence[Verb]) -> str:
    summaries = "\n".join(f"        {shlex.quote(f'{verb.name}:{verb.summary}')}" for verb in verbs)
    flags = "\n".join(f"            {verb.name}) compadd -- {_flags(verb)} ;;" for verb in verbs)
    return f"""\
#compdef pssr2
_pssr2() {{
    local -a verbs=(
{summaries}
    )
    if ((CURRENT == 2)); then
        _describe verb verbs
    elif [[ $words[CURRENT-1] == --preset ]]; then
        compset -P '*,'
        compadd -- {" ".join(preset_names())}
        _files -g '*.json'
    elif [[ $words[CURRENT] == -* ]]; then
        case $words[2] in
{flags}
        esac
    elif [[ $words[2] == completion ]]; then
        compadd -- {" ".join(SCRIPTS)}
    else
        _files
    fi
}}
compdef _pssr2 pssr2
if [[ $funcstack[1] == _pssr2 ]]; then _pssr2 "$@"; fi"""


def _fish(verbs: Sequence[Verb]) -> str:
    lines = [f"complete -c pssr2 -n '__fish_seen_subcommand_from completion' -f -a '{' '.join(SCRIPTS)}'"]
    for verb in verbs:
        valued, switches = _options(verb)
        lines.append(f"complete -c pssr2 -n __fish_use_subcommand -f -a {verb.name} -d {shlex.quote(verb.summary)}")
        seen = f"complete -c pssr2 -n '__fish_seen_subcommand_from {verb.name}'"
        for name in valued:
            lines.append(f"{seen} -l {name} -r" + (f" -a '{' '.join(preset_names())}'" if name == "preset" else ""))
        lines += [f"{seen} -l {name}" for name in switches]
    return "\n".join(lines)


SCRIPTS: dict[str, Callable[[Sequence[Verb]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
