# IP_ADDR: the addresses that the container gets; at its start they are all that it has.
[ -d "$folder" ] || mkdir -p "$folder"
[ "$VE_STATE" != starting ] || rm -f "$folder/$device" "$folder/$device":*
[ "$IPDELALL" != yes ] || rm -f "$folder/$device":*
put "$network" NETWORKING yes
[ -n "$IP_ADDR" ] || exit 0
if [ ! -e "$folder/$device" ]; then
    printf 'DEVICE=venet0\nBOOTPROTO=static\nONBOOT=yes\nIPADDR=127.0.0.1\nNETMASK=255.255.255.255\nBROADCAST=0.0.0.0\n' \
        >"$folder/$device"
    put "$network" GATEWAYDEV venet0
fi
for address in $IP_ADDR; do
    case $address in *:*) ;; *) alias_file "$address" ;; esac
done
exit 0
