"""The lab: the pair of the howto in virtual machines, for scenarios that read as sentences.

    def test_...(lab, www4, www5, nas):              # fixtures; every test begins with the same configured pair
        www4.run("drbdbackup run", timeout=240)      # CompletedProcess; check=False to look at the exit status yourself
        www4.says("hostname"), www4.holds("test -e /x"), www4.json("drbdbackup latest --json")
        copying = www4.starts("drbdbackup run")      # in the background; copying.runs, copying.ends(within=60)
        www4.put("/etc/x", "text"), www4.get("/etc/x"), www4.mail
        www4.pull_the_plug(); www4.boot()            # boot(PRIVATE_ROOT), boot(SYSTEMD): see node.py
        www4.eth1.cut(); www4.eth1.mend()            # eth0 is the public link, eth1 DRBD's
        lab.set_clocks(when)                         # all nodes at once, aware datetime
        with lab.vault.serving("--append-only"): ... # a server off site, on the host
        eventually(lambda: pair.has_the_volume(www5), within=60)
        only_one_of(lab.pair, pair.is_primary)       # fails on two, too
        together((www4.run, "a"), (www5.run, "b"))   # at once

The layers, each knowing only those before it: `waiting`; `image` (the guests' Debian, cached); `switch`, `monitor`,
`machine` (QEMU); `node` (ssh); `shelf` (what is saved, for all labs); `vault` (off site); `lab` (three nodes, saved and
reverted); `pair` (the howto). A command in a guest is much slower than here: `drbdbackup --help` takes 1 to 2 s there.
"""
