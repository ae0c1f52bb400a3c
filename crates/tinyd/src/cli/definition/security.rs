//! What it may do.

use clap::{Args, ValueEnum};
use tinyd_core::{
    Error, Result,
    config::{DevicePair, SeccompChoice, Security, UsernsChoice},
};

use super::Here;

// What it may do.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Security")]
pub(super) struct SecurityArgs {
    /// Open everything: all capabilities and devices, no system call filter, the host's user ids
    #[arg(long)]
    privileged: bool,
    /// A capability beyond the default, or ALL: NET_ADMIN; several may be given
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// A capability of the default to go without, or ALL; several may be given
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Make the root file system read-only
    #[arg(long)]
    read_only: bool,
    /// User ids of its own, or the host's [default: its own where the machine can]
    #[arg(long, value_name = "auto|host", hide_possible_values = true)]
    userns: Option<Userns>,
    /// seccomp=FILE, seccomp=unconfined, no-new-privileges; several may be given
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// A device of the host: /dev/fuse, /dev/fuse:/dev/fuse:rw; several may be given
    #[arg(long, value_name = "HOST[:CONTAINER[:rwm]]")]
    device: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Userns {
    Auto,
    Host,
}

impl SecurityArgs {
    /// What was said.
    pub(super) fn security(self, here: &impl Here) -> Result<Security> {
        let mut security = Security {
            privileged: self.privileged,
            cap_add: self.cap_add.iter().map(|cap| capability("--cap-add", cap)).collect::<Result<_>>()?,
            cap_drop: self.cap_drop.iter().map(|cap| capability("--cap-drop", cap)).collect::<Result<_>>()?,
            read_only: self.read_only,
            userns: match self.userns {
                None => UsernsChoice::Default,
                Some(Userns::Auto) => UsernsChoice::Auto,
                Some(Userns::Host) => UsernsChoice::Host,
            },
            devices: self
                .device
                .iter()
                .map(|text| DevicePair::parse("--device", text))
                .collect::<Result<_>>()?,
            ..Security::default()
        };
        for option in &self.security_opt {
            apply_option(&mut security, option, here)?;
        }
        Ok(security)
    }
}

/// `NET_ADMIN` for `net_admin` and `CAP_NET_ADMIN`; which ones there are the daemon knows.
fn capability(field: &str, text: &str) -> Result<String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') {
        return Err(Error::invalid(
            field,
            format!("{text:?} is not a capability such as NET_ADMIN, nor ALL"),
        ));
    }
    Ok(name.to_owned())
}

fn apply_option(security: &mut Security, option: &str, here: &impl Here) -> Result<()> {
    let (key, value) =
        option.split_once(['=', ':']).map_or((option, None), |(key, value)| (key, Some(value)));
    match (key, value) {
        ("no-new-privileges", None | Some("true")) => security.no_new_privileges = true,
        ("no-new-privileges", Some("false")) => security.no_new_privileges = false,
        ("seccomp", Some("unconfined")) => security.seccomp = SeccompChoice::Unconfined,
        ("seccomp", Some("default" | "builtin")) => security.seccomp = SeccompChoice::Default,
        ("seccomp", Some(path)) if !path.is_empty() => {
            security.seccomp = SeccompChoice::Profile(profile(path, here)?)
        }
        _ => {
            let rule = "seccomp=FILE, seccomp=unconfined or no-new-privileges";
            return Err(Error::invalid("--security-opt", format!("{option:?} is not known: {rule}")));
        }
    }
    Ok(())
}

/// The profile's text: the file is here, the daemon may be elsewhere.
fn profile(path: &str, here: &impl Here) -> Result<String> {
    let told =
        |error: &dyn std::fmt::Display| Error::invalid("--security-opt", format!("seccomp={path}: {error}"));
    let text = here.text(path).map_err(|error| told(&error))?;
    serde_json::from_str::<serde::de::IgnoredAny>(&text).map_err(|error| told(&error))?;
    Ok(text)
}
