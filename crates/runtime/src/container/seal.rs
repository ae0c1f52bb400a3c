//! Keeps the runtime's own file out of reach: a container's root that is the host's root could write it through
//! /proc/PID/exe while the runtime is inside (CVE-2019-5736).
//!
//! The runtime executes itself once more from a read-only mount of its own file that is attached nowhere: no copy is made, and
//! what is opened through /proc/PID/exe is on that mount. Where there are no detached mounts it is copied to a sealed memory file.
//!
//! Nearly always it is mapped from there before it gets here, by its very entry (`tinyd_sys::entry`, which says why). Here is what has to
//! hold, and the way to it where that one was refused.

use std::{
    ffi::CString,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
};

use rustix::fs::{Access, AtFlags, CWD, MemfdFlags, SealFlags, accessat};
use tinyd_core::{Error, Kind, Result};
use tinyd_sys::{
    mount::{self, Attr},
    process::{self, Strings},
};

use crate::{
    caller::Caller,
    launch::{kernel, step},
};

/// Says that this is the second execution, so that there is never a third.
const MARK: &str = "TINYRUN_SEALED=1";

fn is_second_life() -> bool {
    std::env::var_os("TINYRUN_SEALED").is_some()
}

/// Comes back when this process's image cannot be written through /proc. Otherwise the process begins again from one that cannot.
///
/// # Errors
/// When there is no way to one.
pub(super) fn require_unwritable_image(caller: Caller) -> Result<()> {
    if caller.is_rootless() && is_somebody_elses(caller) {
        return Ok(());
    }
    if process::own_image_is_unwritable().map_err(step("look at the runtime's own file"))? {
        return Ok(());
    }
    if is_second_life() {
        return Err(Error::new(
            Kind::Internal,
            "the runtime's own file cannot be protected from the container",
        ));
    }
    let args = std::env::args_os().map(|arg| c_string(arg.into_vec())).collect();
    let env =
        std::env::vars_os().map(|(key, value)| c_string([key.into_vec(), value.into_vec()].join(&b'=')));
    let env = env.chain([c_string(MARK.into())]).collect();
    let (args, env) = (Strings::new(args), Strings::new(env));
    if let Ok(view) = read_only_view() {
        // Some security modules execute nothing from a mount that has no path: the copy is left then.
        let _ = process::execve_fd(view.as_fd(), &args, &env);
    }
    let error = process::execve_fd(sealed_copy()?.as_fd(), &args, &env);
    Err(step("execute the runtime again")(error))
}

/// Whether the file belongs to somebody whom a container of this caller's cannot be, and is not for others to write.
fn is_somebody_elses(caller: Caller) -> bool {
    let own = c"/proc/self/exe";
    let writes = accessat(CWD, own, Access::WRITE_OK, AtFlags::EACCESS).is_ok();
    let is_roots = rustix::fs::stat(own).is_ok_and(|stat| stat.st_uid == 0);
    // Root of a user namespace may write what belongs to anybody in it.
    !writes && (matches!(caller, Caller::Namespace { .. }) || is_roots)
}

fn c_string(bytes: Vec<u8>) -> CString {
    // Arguments and environment came from C strings.
    CString::new(bytes).unwrap_or_default()
}

fn read_only_view() -> tinyd_sys::Result<OwnedFd> {
    let view = mount::clone_path(c"/proc/self/exe", false)?;
    mount::set_attr(view.as_fd(), Attr { set: Attr::RDONLY, ..Attr::default() }, false)?;
    Ok(view)
}

fn sealed_copy() -> Result<OwnedFd> {
    let failed = |error: rustix::io::Errno| kernel("copy the runtime's own file", &error);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = rustix::fs::memfd_create(c"tinyrun", flags).map_err(failed)?;
    let mut own =
        std::fs::File::open("/proc/self/exe").map_err(|error| kernel("open(/proc/self/exe)", &error))?;
    let mut file = std::fs::File::from(copy);
    std::io::copy(&mut own, &mut file).map_err(|error| kernel("copy the runtime's own file", &error))?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(failed)?;
    Ok(file.into())
}
