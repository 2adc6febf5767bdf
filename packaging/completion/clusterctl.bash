# bash completion for clusterctl. Made by `make docs`: change packaging/completions.py instead.
_clusterctl() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command='' known each
    case $previous in
        --socket | --config) COMPREPLY=($(compgen -f -- "$word")) && return ;;
        --signal) COMPREPLY=($(compgen -W "TERM QUIT KILL USR1 USR2 HUP STOP CONT" -- "$word")) && return ;;
    esac
    for each in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case " status workers top reload restart scale stop kill events stacks config send log-level " in
            *" $each "*) command=$each ;;
        esac
    done
    case $command in
        status) known="--help --json" ;;
        workers) known="--help --json" ;;
        top) known="--help --json" ;;
        reload) known="--help --json --no-wait" ;;
        restart) known="--help --json $(clusterctl workers 2>/dev/null | awk 'NR > 1 { print $1 }')" ;;
        scale) known="--help --json" ;;
        stop) known="--help --json" ;;
        kill) known="--help --json --signal $(clusterctl workers 2>/dev/null | awk 'NR > 1 { print $1 }')" ;;
        events) known="--help --json --follow" ;;
        stacks) known="--help --json $(clusterctl workers 2>/dev/null | awk 'NR > 1 { print $1 }')" ;;
        config) known="--help --json --diff" ;;
        send) known="--help --json all $(clusterctl workers 2>/dev/null | awk 'NR > 1 { print $1 }')" ;;
        log-level) known="--help --json error warning notice info debug" ;;
        *) known="--help --version --socket --config status workers top reload restart scale stop kill events stacks config send log-level" ;;
    esac
    COMPREPLY=($(compgen -W "$known" -- "$word"))
}
complete -F _clusterctl clusterctl
