# USERPW: user:password. The user is made where there is none.
user=${USERPW%%:*}
password=${USERPW#*:}
[ -n "$user" ] && [ -n "$password" ] && [ "$user" != "$USERPW" ] || exit 74
grep -q "^$user:" /etc/passwd || useradd -m "$user" 2>/dev/null || adduser -D "$user" 2>/dev/null || exit 74
printf '%s:%s\n' "$user" "$password" | chpasswd >/dev/null 2>&1 && exit 0
# A busybox without it.
secret=$(printf '%s\n' "$password" | mkpasswd -P 0 2>/dev/null) && [ -n "$secret" ] || exit 74
umask 077
sed "s|^$user:[^:]*:|$user:$secret:|" /etc/shadow >"/etc/shadow.$$" && mv -f "/etc/shadow.$$" /etc/shadow
