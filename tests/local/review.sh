#!/bin/sh
# Stands for the server of the repository, and for who reviews what is pushed to it: the hook post-receive of the bare one.
# What an accept pushes is merged into the branch that Flux follows, where that has not gone on meanwhile.
while read -r old new name; do
  case "$name" in refs/heads/breakglass/*) ;; *) continue ;; esac
  branch=${name#refs/heads/}
  # Taken away.
  git cat-file -e "$new" 2>/dev/null || continue
  main=$(git rev-parse refs/heads/main)
  if [ "$main" != "$new" ] && git merge-base --is-ancestor "$main" "$new"; then
    git update-ref -m "review of $branch" refs/heads/main "$new" "$main" &&
      echo "fleet: merged $branch into main (here nobody has to review)"
  elif ! git merge-base --is-ancestor "$new" "$main"; then
    echo "fleet: main has gone on since $branch began: not merged"
  fi
done
