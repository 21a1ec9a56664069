#!/bin/bash
# Ceph's object gateway on one Linux machine, a second implementation of S3 for tests/flows/test_bucket.py:
#
#     apt-get install --no-install-recommends ceph-mon ceph-osd ceph-common radosgw
#     tests/ceph/gateway.sh up        prints the address, for AAI_TEST_S3
#     tests/ceph/gateway.sh down
#
# A monitor, a store in memory and the gateway, without replicas and without passwords between them.
set -euo pipefail
folder=${TMPDIR:-/tmp}/aai-ceph
address=127.0.0.1:7480
settings=(--conf "$folder/ceph.conf")

write_config() {
    mkdir -p "$folder/mon" "$folder/osd" "$folder/rgw"
    touch "$folder/keyring"
    cat > "$folder/ceph.conf" <<CONF
[global]
fsid = $1
mon host = 127.0.0.1:6789
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
rgw dynamic resharding = false
mon data = $folder/mon
osd data = $folder/osd
rgw data = $folder/rgw
keyring = $folder/keyring
admin socket = $folder/\$name.asok
pid file = $folder/\$name.pid
log file = $folder/\$name.log
mon cluster log file = $folder/cluster.log
CONF
}

up() {
    down
    local id
    id=$(cat /proc/sys/kernel/random/uuid)
    write_config "$id"
    monmaptool --create --add a 127.0.0.1:6789 --fsid "$id" "$folder/monmap"
    ceph-mon "${settings[@]}" --mkfs -i a --monmap "$folder/monmap"
    ceph-mon "${settings[@]}" -i a
    id=$(cat /proc/sys/kernel/random/uuid)
    timeout 60 ceph "${settings[@]}" osd new "$id"
    ceph-osd "${settings[@]}" --mkfs -i 0 --osd-uuid "$id"
    ceph-osd "${settings[@]}" -i 0
    timeout 120 radosgw-admin "${settings[@]}" user create --uid=aai --display-name=aai --access-key=test --secret-key=test
    radosgw "${settings[@]}" -n client.rgw.a --rgw-frontends "beast endpoint=$address"
    timeout 60 bash -c "until curl --silent --output /dev/null http://$address/; do sleep 0.5; done"
}

down() {
    for pid in "$folder"/*.pid; do
        [ -f "$pid" ] && kill "$(cat "$pid")" 2> /dev/null || true
    done
    rm -rf "$folder"
}

case "${1:-}" in
    up) up > "${TMPDIR:-/tmp}/aai-ceph.log" 2>&1 || { tail "${TMPDIR:-/tmp}/aai-ceph.log" >&2; exit 1; }; echo "http://$address" ;;
    down) down ;;
    *) echo "usage: $0 up|down" >&2; exit 2 ;;
esac
