//! Network devices of the host that the container gets.

use tinyd_core::{Error, Result, oci};
use tinyd_sys::ns::flag;

use super::namespaces::Namespaces;

/// A device that is moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name outside.
    pub outside: String,
    /// Its name inside.
    pub inside: String,
}

/// Reads `linux.netDevices`.
///
/// # Errors
/// `InvalidArgument` for what is no name, a name that is given twice, or without a network namespace.
pub fn plan(linux: &oci::Linux, namespaces: &Namespaces) -> Result<Vec<NetDevice>> {
    if !linux.net_devices.is_empty() && !namespaces.has(flag::NET) {
        return Err(Error::invalid(
            "linux.netDevices",
            "they need a network namespace in linux.namespaces: this one is the host's",
        ));
    }
    let mut planned: Vec<NetDevice> = Vec::with_capacity(linux.net_devices.len());
    for (outside, device) in &linux.net_devices {
        let field = || format!("linux.netDevices[{outside:?}]");
        let inside = device.name.as_ref().filter(|name| !name.is_empty()).unwrap_or(outside);
        for name in [outside, inside] {
            if !is_name(name) {
                let rule = format!(
                    "{name:?} is not the name of a network device: 1 to 15 bytes without blank, / and :"
                );
                return Err(Error::invalid(field(), rule));
            }
        }
        if planned.iter().any(|seen| seen.inside == *inside) {
            return Err(Error::invalid(field(), format!("{inside:?} is given twice")));
        }
        planned.push(NetDevice { outside: outside.clone(), inside: inside.clone() });
    }
    Ok(planned)
}

/// dev_valid_name() of the kernel; a `%` would be a pattern to it.
fn is_name(name: &str) -> bool {
    const BYTES_MAX: usize = 15;
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'%');
    (1..=BYTES_MAX).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(devices: &[(&str, Option<&str>)], new: u64) -> Result<Vec<NetDevice>> {
        let device = |(outside, inside): &(&str, Option<&str>)| {
            ((*outside).to_owned(), oci::NetDevice { name: inside.map(str::to_owned) })
        };
        let linux = oci::Linux { net_devices: devices.iter().map(device).collect(), ..oci::Linux::default() };
        plan(&linux, &Namespaces { new, ..Namespaces::default() })
    }

    #[test]
    fn a_device_keeps_its_name_unless_it_gets_another() {
        let planned = plan_of(&[("eth1", None), ("eth2", Some("lan"))], flag::NET).unwrap();
        let names: Vec<_> =
            planned.iter().map(|device| (device.outside.as_str(), device.inside.as_str())).collect();
        assert_eq!(names, [("eth1", "eth1"), ("eth2", "lan")]);
    }

    #[test]
    fn refusals_name_the_device() {
        assert!(plan_of(&[("eth1", None)], 0).unwrap_err().message().contains("network namespace"));
        for bad in ["", "a b", "a/b", "a:b", "..", "eth%d", "sixteen-letters-"] {
            let error = plan_of(&[(bad, None)], flag::NET).unwrap_err();
            assert!(error.field().unwrap().starts_with("linux.netDevices["), "{bad}");
        }
        assert!(plan_of(&[("a", Some("x")), ("b", Some("x"))], flag::NET).is_err());
    }
}
