#!/bin/sh
# Stands before git and kubectl on PATH. Writes down each call that changes something, a line in $FAULT_STEPS, and ends who called
# (SIGKILL) before or after the one that $FAULT_AT names: `before 1 git push` is the first push.
program=${0##*/}
PATH=${PATH#*:}
export PATH

verb() {
  while :; do
    case "$1" in
      -c) shift 2 ;;
      -*) shift ;;
      *) break ;;
    esac
  done
  case "$1" in
    worktree) echo "$1 $2" ;;
    *) echo "$1" ;;
  esac
}

step="$program $(verb "$@")"
case "$step" in
  # They only read: whoever is killed at one of them has done what they have done when they come to the next that does not. None
  # is written down, and who names one is killed there all the same.
  "git rev-parse" | "git remote" | "git config" | "git check-ref-format" | "git worktree list" | "git ls-remote" | \
    "git merge-base" | "git log" | "git diff" | "git show" | "kubectl kustomize")
    [ "$FAULT_AT" != "before 1 $step" ] || kill -s KILL "$PPID"
    exec "$program" "$@"
    ;;
esac
echo "$step" >>"$FAULT_STEPS"
count=$(grep -c -x -F -e "$step" "$FAULT_STEPS")
case "$FAULT_AT" in
  "before $count $step")
    kill -s KILL "$PPID"
    ;;
  "after $count $step")
    "$program" "$@"
    kill -s KILL "$PPID"
    ;;
  *)
    exec "$program" "$@"
    ;;
esac
