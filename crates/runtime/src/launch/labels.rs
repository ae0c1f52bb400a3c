//! Labels of security modules: an AppArmor profile and an SELinux label that the program gets when it is executed. The kernel takes them
//! through a file of the process's own entry in /proc, which is opened in the host's procfs: nothing of the container's is on the way.

use std::{fs::File, io::Write, os::fd::AsFd, os::fd::BorrowedFd, path::Path};

use tinyd_core::{Error, Kind, Result};
use tinyd_sys::ns::Proc;

use super::{kernel, step};
use crate::plan::process::ProcessPlan;

const APPARMOR: &str = "process.apparmorProfile";
const SELINUX: &str = "process.selinuxLabel";

/// Says that what is asked for is there.
///
/// # Errors
/// `Unsupported` for a label of a module that this kernel does not have.
pub(crate) fn require(process: &ProcessPlan, mount_label: Option<&str>) -> Result<()> {
    let missing = |field: &str, module: &str| {
        let message = format!("this host has no {module}, and a label of it is asked for");
        Err(Error::new(Kind::Unsupported, message).of_field(field))
    };
    if needs_apparmor(process) && !has_apparmor() {
        return missing(APPARMOR, "AppArmor");
    }
    let selinux = [(SELINUX, process.selinux.as_deref()), ("linux.mountLabel", mount_label)];
    match selinux.iter().find(|(_, label)| label.is_some()) {
        Some((field, _)) if !has_selinux() => missing(field, "SELinux"),
        Some(_) | None => Ok(()),
    }
}

/// No profile is what there is without AppArmor.
fn needs_apparmor(process: &ProcessPlan) -> bool {
    process.apparmor.as_deref().is_some_and(|profile| profile != "unconfined" || has_apparmor())
}

/// Whether programs can be confined by AppArmor here.
pub(crate) fn has_apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// Whether SELinux is at work here: its file system is mounted.
pub(crate) fn has_selinux() -> bool {
    const SELINUX_MAGIC: i64 = 0xf97c_ff8c;
    rustix::fs::statfs(c"/sys/fs/selinux").is_ok_and(|stat| stat.f_type == SELINUX_MAGIC)
}

/// Labels that were opened and wait to be set.
#[derive(Debug, Default)]
pub(crate) struct Labels(Vec<(&'static str, String, File)>);

impl Labels {
    /// Opens the files of the calling process.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn open(proc: &Proc, process: &ProcessPlan) -> Result<Labels> {
        let mut all = Vec::new();
        if let Some(profile) = process.apparmor.as_ref().filter(|_| needs_apparmor(process)) {
            // A file of its own since Linux 5.8, for kernels with several modules.
            let file = proc
                .open_own(Path::new("attr/apparmor/exec"))
                .or_else(|_| proc.open_own(Path::new("attr/exec")))
                .map_err(step(APPARMOR))?;
            all.push((APPARMOR, format!("exec {profile}"), File::from(file)));
        }
        if let Some(label) = &process.selinux {
            let file = proc.open_own(Path::new("attr/exec")).map_err(step(SELINUX))?;
            all.push((SELINUX, label.clone(), File::from(file)));
        }
        Ok(Labels(all))
    }

    /// The files, to be kept open.
    pub(crate) fn files(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|(_, _, file)| file.as_fd())
    }

    /// Has the next program executed get them.
    ///
    /// # Errors
    /// The kernel's refusal, such as ENOENT for a profile that is not loaded.
    pub(crate) fn set(&self) -> Result<()> {
        self.0.iter().try_for_each(|(field, text, file)| {
            (&*file).write_all(text.as_bytes()).map_err(|error| {
                Error::new(Kind::Internal, kernel(&format!("write({text:?})"), &error).message())
                    .of_field(*field)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use tinyd_core::oci;

    use super::*;

    fn plan(apparmor: Option<&str>, selinux: Option<&str>) -> ProcessPlan {
        let process = oci::Process {
            args: vec!["sh".into()],
            cwd: "/".into(),
            apparmor_profile: apparmor.map(str::to_owned),
            selinux_label: selinux.map(str::to_owned),
            ..oci::Process::default()
        };
        crate::plan::process::plan(&process, &oci::Linux::default(), &mut Vec::new()).unwrap()
    }

    #[test]
    fn a_label_of_a_module_that_is_not_there_is_refused_by_name() {
        if !has_apparmor() {
            let error = require(&plan(Some("web"), None), None).unwrap_err();
            assert_eq!((error.kind(), error.field()), (Kind::Unsupported, Some(APPARMOR)));
            require(&plan(Some("unconfined"), None), None).unwrap();
        }
        if !has_selinux() {
            let error = require(&plan(None, Some("u:r:t:s0")), None).unwrap_err();
            assert_eq!((error.kind(), error.field()), (Kind::Unsupported, Some(SELINUX)));
            let error = require(&plan(None, None), Some("u:r:t:s0")).unwrap_err();
            assert_eq!(error.field(), Some("linux.mountLabel"));
        }
        require(&plan(None, None), None).unwrap();
    }

    #[test]
    fn a_label_is_written_as_its_module_reads_it() {
        let name = std::env::temp_dir().join(format!("tinyrun-label-{}", std::process::id()));
        let file = File::create(&name).unwrap();
        Labels(vec![(APPARMOR, "exec web".into(), file)]).set().unwrap();
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "exec web");
        std::fs::remove_file(name).unwrap();
        let refused =
            Labels(vec![(SELINUX, "x".into(), File::open("/dev/null").unwrap())]).set().unwrap_err();
        assert_eq!(refused.field(), Some(SELINUX));
    }
}
