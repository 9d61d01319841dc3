# HOSTNM: the name; IP_ADDR: the first address. Where there is an /etc/hostname it gets the short name.
mark='# Auto-generated hostname. Please do not remove this comment.'
short=${HOSTNM%%.*}
address=${IP_ADDR:-127.0.0.1}
[ -e /etc/hosts ] || echo '127.0.0.1 localhost.localdomain localhost' >/etc/hosts
{
    # Without what an earlier start has written, and what else has the name or the address.
    awk -v mark="$mark" -v host="$HOSTNM" -v address="$address" '
        $0 == mark { ours = 1; next }
        ours || $2 == host || ($1 == address && address != "127.0.0.1") { ours = 0; next }
        { print }' /etc/hosts
    echo "$mark"
    if [ "$short" = "$HOSTNM" ]; then echo "$address $HOSTNM"; else echo "$address $HOSTNM  $short"; fi
} >"/etc/hosts.$$" && mv -f "/etc/hosts.$$" /etc/hosts
if [ -e /etc/hostname ]; then
    echo "$short" >/etc/hostname
    hostname "$short" 2>/dev/null
else
    put "$network" HOSTNAME "$HOSTNM"
    hostname "$HOSTNM" 2>/dev/null
fi
exit 0
