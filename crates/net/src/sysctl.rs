//! The few network settings that only `/proc/sys` has.

use std::{fs, io};

use tinyd_core::{Error, Kind, Result};

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Turns on forwarding; says whether it was off.
pub(crate) fn enable_forwarding() -> Result<bool> {
    let failed = |error: io::Error| Error::new(Kind::Internal, format!("turn on {IP_FORWARD}: {error}"));
    if fs::read_to_string(IP_FORWARD).map_err(failed)?.trim() != "0" {
        return Ok(false);
    }
    fs::write(IP_FORWARD, "1").map_err(failed)?;
    Ok(true)
}

/// Whether this host has IPv6.
pub(crate) fn has_ipv6() -> bool {
    fs::exists("/proc/sys/net/ipv6").unwrap_or(false)
}

/// No IPv6 on a bridge, not even by what its neighbours advertise; no word to a container that reaches its neighbour through the host.
/// A host without one of these files has nothing to turn off.
pub(crate) fn quiet_bridge(interface: &str) {
    for (family, key, value) in
        [("ipv6", "disable_ipv6", "1"), ("ipv6", "accept_ra", "0"), ("ipv4", "send_redirects", "0")]
    {
        let _ = fs::write(format!("/proc/sys/net/{family}/conf/{interface}/{key}"), value);
    }
}

/// No IPv6 on a bridge's port.
pub(crate) fn quiet_port(interface: &str) {
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "1");
}

/// Whether what stays on a bridge goes through the firewall (`br_netfilter`).
pub(crate) fn bridges_filter() -> bool {
    fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables").is_ok_and(|value| value.trim() != "0")
}
