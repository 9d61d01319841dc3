# NAMESERVER, SEARCHDOMAIN: what the container asks for names.
[ -e /etc/resolv.conf ] || : >/etc/resolv.conf
{
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        search* | [[:blank:]]*search*) [ -n "$SEARCHDOMAIN" ] || echo "$line" ;;
        nameserver* | [[:blank:]]*nameserver*) [ -n "$NAMESERVER" ] || echo "$line" ;;
        *) echo "$line" ;;
        esac
    done </etc/resolv.conf
    [ -z "$SEARCHDOMAIN" ] || echo "search $SEARCHDOMAIN"
    for server in $NAMESERVER; do echo "nameserver $server"; done
} >"/etc/resolv.conf.$$" && mv -f "/etc/resolv.conf.$$" /etc/resolv.conf
chmod 644 /etc/resolv.conf
