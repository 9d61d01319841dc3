# What the root of a container does all night, inside it. Everything that it makes says "by the root of 101".
# Names that privileged programs might use for themselves: links that lead out, each beside a file called like a victim.
mkdir -p /srv/names && cd /srv/names || exit
for name in .ringfree-partial .rsync-partial .~tmp~ .ringfree-replaced .ringfree-removed .ringfree; do
    for target in /etc /root ../../../../102/srv ../../../.ringfree/owner; do
        folder=$name$(echo "$target" | tr / _)
        mkdir -p "$folder" && ln -s "$target" "$folder/$name"
        for victim in victim.conf marker 102; do echo "by the root of 101" >"$folder/$victim"; done
    done
done
# Names that a terminal, a log or a program might take for something else.
mkdir -p /srv/odd && cd /srv/odd || exit
printf x >"$(printf 'a\033[31m\nred')"; printf x >"$(printf '\377\376')"; printf x >'-rf'; printf x >'$(touch pwned)'; printf x >'a b;c'
# Directories that are swapped with links all the time: those who come in by a name end up elsewhere.
cat >/srv/swap <<'SWAP'
mkdir -p /srv/race && cd /srv/race || exit
number=0
for target in /root /etc/ringfree/ssh ../../../102/root /rf-images/pbx/202/root; do
    for name in 1 2 3 4; do
        number=$((number + 1))
        [ -e "l$number" ] || [ -L "l$number" ] || ln -s "$target" "l$number"
        [ -e "d$number" ] || [ -L "d$number" ] || mkdir "d$number" || continue
        for file in secret id_ed25519; do echo "by the root of 101" >"d$number/$file"; done
    done
done
exec /srv/swapper
SWAP
# Processes that are called like those of the node, at every boot.
cat >/etc/rc3.d/S99night <<'NIGHT'
#!/bin/sh
[ "$1" = start ] || exit 0
sh /srv/swap >/dev/null 2>&1 </dev/null &
RINGFREE_COMMAND=1 sh -c 'while :; do sleep 1000; done' ringfree_rollback.fire ringfree_rollback.bring_home >/dev/null 2>&1 </dev/null &
RINGFREE_COMMAND=1 sh -c 'while :; do sleep 1000; done' salt-call ringfree_rollback.fire >/dev/null 2>&1 </dev/null &
NIGHT
chmod 755 /etc/rc3.d/S99night
/etc/rc3.d/S99night start
