"""``pssr2 completion``: what a shell needs to complete the verbs, their options and the names of presets."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pssr2_monai.bundle import preset_names, training_ids
from pssr2_monai.cli.answer import Answer
from pssr2_monai.cli.arguments import options_of, switches_of, takes_training_ids
from pssr2_monai.errors import UsageError, nearest

EVERYWHERE = ("debug", "help", "json")


def completion(shell: str) -> Answer:
    """Write a script that lets a shell complete verbs, options and presets.

    pssr2 completion SHELL

    SHELL  bash, zsh or fish; the script goes where the shell looks for it:
           bash  ~/.local/share/bash-completion/completions/pssr2 (with the package bash-completion)
           zsh   a file _pssr2 in a folder of $fpath
           fish  ~/.config/fish/completions/pssr2.fish

    Example: pssr2 completion fish > ~/.config/fish/completions/pssr2.fish
    """
    from pssr2_monai.cli.verbs import COMMANDS

    if shell not in SCRIPTS:
        raise UsageError(f"completion: there is no script for {shell!r}{nearest(shell, SCRIPTS)}; use bash, zsh, fish")
    script = SCRIPTS[shell]([_verb(name, each) for name, each in COMMANDS.items()])
    return Answer(script, {"shell": shell, "script": script})


@dataclass(frozen=True)
class _Verb:
    """A verb as shells see it: its options with a value, its switches, and the words that its argument may be."""

    name: str
    summary: str
    valued: Sequence[str]
    switches: Sequence[str]
    words: Sequence[str] = ()

    @property
    def flags(self) -> str:
        return " ".join(f"--{name}" for name in (*self.valued, *self.switches))


def _verb(name: str, command: Callable[..., object]) -> _Verb:
    switches = switches_of(command)
    own = [each.replace("_", "-") for each in options_of(command) if each not in switches]
    ids = [each for each in training_ids() if each not in options_of(command)] if takes_training_ids(command) else []
    known = [each for each in options_of(command) if each in switches]
    summary = (inspect.getdoc(command) or "").splitlines()[0]
    return _Verb(
        name,
        summary,
        [*own, *(each for each in ids if each not in switches)],
        [*(each.replace("_", "-") for each in known), *(each for each in ids if each in switches), *EVERYWHERE],
        tuple(SCRIPTS) if name == completion.__name__ else (),
    )


def _bash(verbs: Sequence[_Verb]) -> str:
    flags = "\n".join(f'            {verb.name}) words="{verb.flags}" ;;' for verb in verbs)
    arguments = "\n".join(f'        {verb.name}) words="{" ".join(verb.words)}" ;;' for verb in verbs if verb.words)
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
    else
        case ${{COMP_WORDS[1]}} in
{arguments}
        esac
    fi
    COMPREPLY=($(compgen -P "$begun" -W "$words" -- "${{current##*,}}"))
}}
complete -o default -F _pssr2 pssr2"""


def _zsh(verbs: Sequence[_Verb]) -> str:
    summaries = "\n".join(f"        '{verb.name}:{verb.summary}'" for verb in verbs)
    flags = "\n".join(f"            {verb.name}) compadd -- {verb.flags} ;;" for verb in verbs)
    arguments = "\n".join(
        f"            {verb.name}) compadd -- {' '.join(verb.words)} ;;" for verb in verbs if verb.words
    )
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
    else
        case $words[2] in
{arguments}
            *) _files ;;
        esac
    fi
}}
compdef _pssr2 pssr2
if [[ $funcstack[1] == _pssr2 ]]; then _pssr2 "$@"; fi"""


def _fish(verbs: Sequence[_Verb]) -> str:
    lines = []
    for verb in verbs:
        lines.append(f"complete -c pssr2 -n __fish_use_subcommand -f -a {verb.name} -d '{verb.summary}'")
        seen = f"complete -c pssr2 -n '__fish_seen_subcommand_from {verb.name}'"
        for name in verb.valued:
            lines.append(f"{seen} -l {name} -r" + (f" -a '{' '.join(preset_names())}'" if name == "preset" else ""))
        lines += [f"{seen} -l {name}" for name in verb.switches]
        lines += [f"{seen} -f -a '{' '.join(verb.words)}'"] if verb.words else []
    return "\n".join(lines)


SCRIPTS: dict[str, Callable[[Sequence[_Verb]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
