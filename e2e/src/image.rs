//! Root file systems to run containers from, made once and shared: nobody ever writes to them, and that is tested too.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Where what is made once is kept (`TINYD_E2E_CACHE`).
fn cache() -> PathBuf {
    std::env::var_os("TINYD_E2E_CACHE")
        .map_or_else(|| PathBuf::from("/var/tmp/tinyd-e2e-cache"), PathBuf::from)
}

/// One of the harness's own programs, which cargo builds beside the tests.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn helper(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("my own path");
    let found = here.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not beside {}", here.display()))
}

/// A root file system of a static busybox and the probe, `/bin/probe`.
///
/// # Panics
/// When busybox-static is not installed.
#[must_use]
pub fn busybox() -> String {
    static ROOT: OnceLock<String> = OnceLock::new();
    ROOT.get_or_init(|| {
        let root = cache().join(format!("busybox-{}", std::process::id()));
        make_busybox(&root);
        root.display().to_string()
    })
    .clone()
}

fn make_busybox(root: &Path) {
    for dir in ["bin", "dev", "etc", "proc", "root", "srv", "sys", "tmp", "var/www"] {
        fs::create_dir_all(root.join(dir)).expect("make the busybox root");
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    fs::copy(busybox.expect("busybox-static is not installed"), root.join("bin/busybox"))
        .expect("copy busybox");
    fs::copy(helper("e2e-probe"), root.join("bin/probe")).expect("copy the probe");
    let applets =
        Command::new(root.join("bin/busybox")).arg("--list").output().expect("list busybox's applets");
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|applet| *applet != "busybox") {
        let _ = symlink("busybox", root.join("bin").join(applet));
    }
    let files = [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n"),
        ("etc/group", "root:x:0:\nalice:x:1000:\nstaff:x:50:alice\n"),
        ("etc/image-mark", "as the image has it\n"),
        ("bin/not-executable", "#!/bin/sh\n"),
    ];
    for (name, text) in files {
        fs::write(root.join(name), text).expect("write a file of the busybox root");
    }
}

/// A root file system of Debian with redis and nginx, made by `e2e/images/debian` once per machine.
///
/// # Panics
/// When it cannot be made: it needs debootstrap and the distribution's mirror.
#[must_use]
pub fn debian() -> String {
    static ROOT: OnceLock<String> = OnceLock::new();
    ROOT.get_or_init(|| {
        if let Some(root) = std::env::var_os("TINYD_E2E_DEBIAN") {
            return root.to_string_lossy().into_owned();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/debian");
        let made = Command::new(&script).arg(cache()).output().expect("run e2e/images/debian");
        assert!(made.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&made.stderr));
        String::from_utf8_lossy(&made.stdout).trim().to_owned()
    })
    .clone()
}

/// Removes busybox roots of test runs that are no more.
pub(crate) fn sweep_stale() {
    let Ok(entries) = fs::read_dir(cache()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("busybox-").map(str::to_owned);
        if owner.is_some_and(|pid| File::open(format!("/proc/{pid}/stat")).is_err()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
