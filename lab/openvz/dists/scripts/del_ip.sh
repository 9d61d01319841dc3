# IP_ADDR: the addresses that the container loses.
[ "$IPDELALL" != yes ] || rm -f "$folder/$device":*
for address in $IP_ADDR; do
    for file in $(grep -l "^IPADDR=${address%%/*}\$" "$folder/$device":* 2>/dev/null); do rm -f "$file"; done
done
exit 0
