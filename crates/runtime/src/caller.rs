//! Who asks for a container: root of the machine, root of a user namespace, or an ordinary user. What can be made for it before it
//! exists, and what only it can make for itself, follows from that.

use tinyd_core::Result;
use tinyd_sys::{
    creds::{self, CapSet},
    mount,
    ns::{IdRange, Proc, flag},
};

use crate::{launch::step, plan::namespaces::Namespaces};

/// Who this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Root of the machine.
    Machine,
    /// Root of a user namespace, as under an engine that an ordinary user runs.
    Namespace {
        /// Whether the mounts that it sees are its own to copy: it has a mount namespace too.
        mounts: bool,
    },
    /// Somebody without a right over anything but what belongs to it.
    User,
}

impl Caller {
    /// Looks at this process.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn of_this_process() -> Result<Caller> {
        let rights = creds::capabilities().map_err(step("read capabilities"))?.effective;
        if !CapSet::number("CAP_SYS_ADMIN").is_some_and(|admin| rights.has(admin)) {
            return Ok(Caller::User);
        }
        let proc = Proc::of_host().map_err(step("open /proc"))?;
        let own = rustix::process::getpid().as_raw_pid();
        let map = proc.read_id_map(own, "uid_map").map_err(step("read the id maps"))?;
        let all = [IdRange { inside: 0, outside: 0, count: u32::MAX }];
        if map == all {
            return Ok(Caller::Machine);
        }
        let copied = mount::clone_path(c"/", true);
        let mounts = !copied.is_err_and(|error| error.errno() == Some(libc::EPERM));
        Ok(Caller::Namespace { mounts })
    }

    /// Whether it is not root of the machine.
    #[must_use]
    pub const fn is_rootless(self) -> bool {
        !matches!(self, Caller::Machine)
    }

    /// Whether it has a systemd of its own, and not the system's. Root of a user namespace can be either: of a machine in a container, or
    /// of an engine that an ordinary user runs, who has a directory for what runs.
    #[must_use]
    pub fn has_own_systemd(self) -> bool {
        match self {
            Caller::Machine => false,
            Caller::Namespace { .. } => std::env::var_os("XDG_RUNTIME_DIR").is_some(),
            Caller::User => true,
        }
    }

    /// Whether the container opens what comes from the host itself, from inside of its user and mount namespaces. An ordinary user may
    /// mount nowhere else. Root of a user namespace opens it for a container that has another one below: from there the files of
    /// its user may be out of reach.
    #[must_use]
    pub fn opens_inside(self, namespaces: &Namespaces) -> bool {
        match self {
            Caller::Machine => false,
            Caller::Namespace { mounts } => !(mounts && namespaces.has(flag::USER)),
            Caller::User => true,
        }
    }

    /// Whether it can make device nodes: those that are made in a user namespace cannot be opened.
    #[must_use]
    pub const fn makes_nodes(self) -> bool {
        matches!(self, Caller::Machine)
    }
}
