# bash completion for clusterctl. Made by `make docs`: change packaging/completions.py instead.
_clusterctl() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command='' known each
    case $previous in
        --socket | --config) COMPREPLY=($(compgen -f -- "$word")) && return ;;
        --signal) COMPREPLY=($(compgen -W "TERM QUIT KILL USR1 USR2 HUP STOP CONT" -- "$word")) && return ;;
    esac
    for each in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case " status workers top reload restart scale stop kill events stacks debug config send log-level " in
            *" $each "*) command=$each ;;
        esac
    done
    case $command in
        status) known="--help --socket --config --json" ;;
        workers) known="--help --socket --config --json" ;;
        top) known="--help --socket --config --json" ;;
        reload) known="--help --socket --config --json --no-wait" ;;
        restart) known="--help --socket --config --json $(clusterctl workers 2>/dev/null | awk 'NR > 1 { print $1 }')" ;;
        scale) known="--help --socket --config --json" ;;
        stop) known="--help --socket --config --json" ;;
        kill) known="--help --socket --config --json --signal hooks $(clusterctl workers 2>/dev/null | awk 'NR > 1 { print $1 }')" ;;
        events) known="--help --socket --config --json --follow" ;;
        stacks) known="--help --socket --config --json hooks $(clusterctl workers 2>/dev/null | awk 'NR > 1 { print $1 }')" ;;
        debug) known="--help --socket --config --json $(clusterctl workers 2>/dev/null | awk 'NR > 1 { print $1 }')" ;;
        config) known="--help --socket --config --json --diff" ;;
        send) known="--help --socket --config --json all $(clusterctl workers 2>/dev/null | awk 'NR > 1 { print $1 }')" ;;
        log-level) known="--help --socket --config --json error warning notice info debug" ;;
        *) known="--help --version --socket --config --json status workers top reload restart scale stop kill events stacks debug config send log-level" ;;
    esac
    COMPREPLY=($(compgen -W "$known" -- "$word"))
}
complete -F _clusterctl clusterctl
