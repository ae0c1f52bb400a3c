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
    said.fails(1, "linux.netDevices[\"t0\"]: RTM_SETLINK(t0, to another network)");
    let mut bundle = Bundle::new("netdev-own").args(&["true"]);
    bundle.spec["linux"]["netDevices"] = json!({ "t0": {} });
    let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut().unwrap();
    let network = namespaces.iter_mut().find(|namespace| namespace["type"] == "network").unwrap();
    network["path"] = json!("/proc/self/ns/net");
    with_link(&bundle, "true").fails(1, "the network namespace is the runtime's own");
}

/// A veth ends with the network that it is in: a container that does not come about must not take it along.
#[test]
fn devices_come_back_when_the_container_does_not_come_about() {
    let check = "ip -br addr show dev t0; ip link show dev t0 | grep -o 'mtu [0-9]*'";
    for (name, hooks) in [("hook", true), ("pid-file", false), ("program", false)] {
        let bundle = Bundle::new(&format!("netdev-back-{name}"));
        let mut bundle = bundle.args(&[if name == "program" { "/nope" } else { "true" }]);
        bundle.spec["linux"]["netDevices"] = json!({ "t0": { "name": "lan0" } });
        if hooks {
            bundle.spec["hooks"] = json!({ "createRuntime": [{ "path": "/bin/false" }] });
        }
        bundle.write();
        let flag = if name == "pid-file" { "--pid-file=/nonexistent/pid" } else { "--no-subreaper" };
        let script = format!(
            "ip link add t0 type veth peer name t1 && ip link set t0 mtu 1400 && ip addr add 10.99.0.7/24 dev t0 && \
             ip link set t0 up; \"$0\" \"$@\"; {check}"
        );
        let dir = bundle.dir.to_str().unwrap();
        let run = ["run", flag, "--bundle", dir, &bundle.id];
        let said = bundle.tinyrun_in(&["unshare", "-n", "sh", "-c", &script], &run);
        let words: Vec<&str> = said.out.split_whitespace().collect();
        assert!(!said.err.is_empty(), "{name}: {said:?}");
        assert!(words[0].starts_with("t0@t1") && words.contains(&"10.99.0.7/24"), "{name}: {said:?}");
        assert_eq!(words.last(), Some(&"1400"), "{name}: {said:?}");
    }
}

/// The second device is not there: the first is not lost.
#[test]
fn devices_are_given_all_or_none() {
    let mut bundle = Bundle::new("netdev-all").args(&["true"]);
    bundle.spec["linux"]["netDevices"] = json!({ "t0": { "name": "lan0" }, "zz0": {} });
    bundle.write();
    let script = "ip link add t0 type veth peer name t1; \"$0\" \"$@\"; ip -br link show dev t0";
    let run = ["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id];
    let said = bundle.tinyrun_in(&["unshare", "-n", "sh", "-c", script], &run);
    assert!(said.err.contains("linux.netDevices[\"zz0\"]"), "{said:?}");
    // It was down, and is.
    assert!(said.out.starts_with("t0@t1 ") && said.out.contains("DOWN"), "{said:?}");
}
