//! Network devices of the host that a container gets.

use serde_json::json;

use crate::driver::Bundle;

/// Its own network namespace is the host here, with a veth that has addresses.
fn with_link(bundle: &Bundle, then: &str) -> crate::driver::Said {
    bundle.write();
    let script = format!(
        "ip link add t0 type veth peer name t1 && ip link set t0 mtu 1400 address 02:00:00:00:00:07 && \
         ip addr add 10.99.0.7/24 dev t0 && ip addr add 10.98.0.8/24 dev t0 scope link && ip link set t0 up && \
         \"$0\" \"$@\" && {then}"
    );
    bundle.tinyrun_in(
        &["unshare", "-n", "sh", "-c", &script],
        &["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id],
    )
}

#[test]
fn a_device_of_the_host_moves_in_with_its_addresses() {
    let show = "cat /sys/class/net/lan0/mtu /sys/class/net/lan0/address /sys/class/net/lan0/flags; \
                grep -c '10.99.0.7$' /proc/net/fib_trie; grep -c '10.98.0.8$' /proc/net/fib_trie; ls /sys/class/net";
    for users in [false, true] {
        let bundle = Bundle::new(&format!("netdev-{users}")).script(show);
        let mut bundle = if users { bundle.with_users() } else { bundle };
        bundle.spec["linux"]["netDevices"] = json!({ "t0": { "name": "lan0" } });
        let said = with_link(&bundle, "! ip link show t0 2>&1");
        let lines: Vec<&str> = said.out.lines().collect();
        // Up, broadcast, multicast; the address of the link's own scope stays behind.
        let expected = ["1400", "02:00:00:00:00:07", "0x1003", "2", "0", "lan0", "lo"];
        assert_eq!(lines[..7], expected, "{said:?}");
    }
}

#[test]
fn a_device_that_cannot_move_is_named() {
    let mut bundle = Bundle::new("netdev-none").args(&["true"]);
    bundle.spec["linux"]["netDevices"] = json!({ "nosuch0": {} });
    bundle.run().fails(1, "linux.netDevices[\"nosuch0\"]: RTM_GETLINK(nosuch0)");
    bundle.assert_clean();
    let mut bundle = Bundle::new("netdev-taken").args(&["true"]);
    bundle.spec["linux"]["netDevices"] = json!({ "t0": { "name": "lo" } });
    let said = with_link(&bundle, "true");
    said.fails(1, "linux.netDevices[\"t0\"]: RTM_SETLINK(t0, to the container)");
    let mut bundle = Bundle::new("netdev-own").args(&["true"]);
    bundle.spec["linux"]["netDevices"] = json!({ "t0": {} });
    let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut().unwrap();
    let network = namespaces.iter_mut().find(|namespace| namespace["type"] == "network").unwrap();
    network["path"] = json!("/proc/self/ns/net");
    with_link(&bundle, "true").fails(1, "the network namespace is the runtime's own");
}
