"""A peer on libtorrent-rasterbar that finds others only in the given ways.

usage: libtorrent_peer.py TORRENT DIRECTORY INTERFACE [lsd] [seed] [up=KIB] [peer=IP,PORT]

INTERFACE is an address and port as libtorrent writes them. Prints `whole` once it has everything, and ends by a signal.
"""
import sys
import time

import libtorrent as lt

torrent, directory, interface, *words = sys.argv[1:]
values = dict(word.split("=") for word in words if "=" in word)
session = lt.session({
    "listen_interfaces": interface, "alert_mask": 0, "enable_lsd": "lsd" in words,
    "enable_dht": False, "enable_upnp": False, "enable_natpmp": False,
    "enable_incoming_utp": False, "enable_outgoing_utp": False, "in_enc_policy": 2, "out_enc_policy": 2,
    "allow_multiple_connections_per_ip": True, "upload_rate_limit": int(values.get("up", 0)) << 10,
})
flags = lt.torrent_flags.default_flags & ~lt.torrent_flags.auto_managed & ~lt.torrent_flags.paused
if "seed" in words:
    flags |= lt.torrent_flags.seed_mode
handle = session.add_torrent({"ti": lt.torrent_info(torrent), "save_path": directory, "flags": flags})
if "peer" in values:
    ip, port = values["peer"].split(",")
    handle.connect_peer((ip, int(port)))
while not handle.status().is_seeding:
    time.sleep(0.05)
print("whole", flush=True)
while True:
    time.sleep(60)
